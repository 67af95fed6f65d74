"""What a real TGI 3.3.7 was asked and answered, and a model that writes what it was seen to write."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from string import printable
from typing import Any

from tests.support.requirements import TGI
from tests.support.tgi_model import BEGIN, END, Chances, Token
from tests.support.tgi_requests import Job, Limits, read_chat, read_completions, read_generate

ADAPTERS = ("lora-a", "lora-b")
KEY = "recorded-key"
_KEYS = {"apikey_right": f"Bearer {KEY}", "apikey_lowercase_scheme": f"bearer {KEY}", "apikey_wrong": "Bearer other"}
_CUT = " ...cut... "
# Tokens that no record shows, and that its counts of tokens need.
_UNSEEN = (" x", " a", " b", "ame", "AD", "<|system|>")
# Bytes as the tokenizer counts them, from its sixth token on: those that can be printed first.
_BYTES = (*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173)
# The log-probability of a greedy token of which no record tells it.
_LIKELY = math.log(0.5)


@dataclass(frozen=True)
class Answer:
    """`headers` by lower-case names."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def is_json(self) -> bool:
        return self.headers.get("content-type") == "application/json"

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    @property
    def content(self) -> Any:
        return json.loads(self.text)

    @property
    def is_cut(self) -> bool:
        """The middle of it was left out when it was recorded."""
        return _CUT in self.text

    @property
    def events(self) -> list[Any]:
        """Those before the cut."""
        data = [line.removeprefix("data: ") for line in self.text.split("\n\n") if line]
        whole = takewhile(lambda each: _CUT not in each, data)
        return [each if each == "[DONE]" else json.loads(each) for each in whole]


@dataclass(frozen=True)
class Record:
    """One request, sent `at_once` times together, and its answers."""

    name: str
    method: str
    path: str
    body: Any
    at_once: int
    answers: tuple[Answer, ...]

    @property
    def payload(self) -> bytes:
        """The body as it was sent. One was a file of more than TGI takes, which is not recorded."""
        if self.name == "gen_payload_too_big":
            return json.dumps({"inputs": "x" * 2_100_000}).encode()
        if self.body is None:
            return b""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()

    @property
    def headers(self) -> dict[str, str]:
        key = {"Authorization": _KEYS[self.name]} if self.name in _KEYS else {}
        kind = "application/x-www-form-urlencoded" if self.name == "gen_no_content_type" else "application/json"
        return {"Content-Type": kind} | key

    @property
    def limits(self) -> Limits:
        """Of the server that was asked; they were four, started one after another."""
        few = self.name.startswith(("apikey_", "overload_", "shard_dead_"))
        return Limits(
            concurrent_requests=2 if few else 64 if self.name.startswith("lora_") else 128,
            input_tokens=256,
            total_tokens=320,
            prefill_logprobs=not self.name.startswith("launcher_default_"),
        )

    @property
    def jobs(self) -> list[Job]:
        """What was to be written, as TGI understood it; none where it did not come to that."""
        if self.method != "POST" or self.answers[0].status not in (200, 429) or "tokenize" in self.path:
            return []
        if self.path == "/v1/chat/completions":
            return [read_chat(self.body, chat_prompt)]
        if self.path == "/v1/completions":
            return read_completions(self.body)
        return [read_generate(self.body, has_full_text=self.path in ("/", "/invocations"))]

    @property
    def is_the_models(self) -> bool:
        """Was something drawn, held to a grammar or watermarked? Then the text is the real model's alone."""
        return any(
            job.is_sampled or job.parameters.get("grammar") or job.parameters.get("watermark") for job in self.jobs
        )


def chat_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """The template of the model that was recorded."""
    said = "".join(f"<|{message['role']}|>{_text(message['content'])}{END}" for message in messages)
    return f"{BEGIN}{said}<|assistant|>"


def _text(content: Any) -> str:
    return "".join(part["text"] for part in content) if isinstance(content, list) else str(content)


def recorded() -> list[Record]:
    """All of them, none where the recordings are not there."""
    if not TGI.is_file():
        return []
    return [_record(json.loads(line)) for line in TGI.read_text().splitlines()]


def _record(document: dict[str, Any]) -> Record:
    request = document["request"]
    answers = [_answer(each) for each in document.get("responses", [document])]
    method = request.get("method", "POST")
    return Record(
        document["name"],
        "HEAD" if document["name"] == "head_health" else method,
        request["path"],
        request["body"],
        request.get("at_once", 1),
        tuple(answers),
    )


def _answer(document: dict[str, Any]) -> Answer:
    pairs = [each.split(": ", 1) if isinstance(each, str) else each for each in document["headers"]]
    headers = {pair[0].lower(): pair[1] for pair in pairs if len(pair) == 2}
    text = document["text"] if "text" in document else json.dumps(document["body"])
    return Answer(document["status"], headers, text)


class RecordedModel:
    """Greedy, it writes what the recorded model wrote, with its log-probabilities; elsewhere, anything."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._ids: dict[str, int] = {}
        self._read: dict[str, list[str]] = {}
        self._seen: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        for token in (token for record in records for token in _tokens_in(record)):
            if "\ufffd" not in token["text"] and token["text"]:
                self._ids.setdefault(token["text"], token["id"])
        for text in (BEGIN, END, *_UNSEEN, *printable):
            self._ids.setdefault(text, len(self._ids) + 2000)
        self._anything = self._zipf()
        for record in records:
            for job in [] if record.is_the_models else record.jobs:
                for answer in record.answers:
                    self._learn(job, answer)

    def tokens(self, text: str) -> list[Token]:
        pieces = self._read.get(text) or self._longest(text)
        return [token for piece in pieces for token in self._tokens_of(piece)]

    def token(self, text: str) -> Token:
        return Token(self._ids[text], text)

    def _tokens_of(self, piece: str) -> list[Token]:
        """One, or one for each byte of a letter that has no token of its own."""
        if piece in self._ids and piece.isascii():
            return [self.token(piece)]
        ids = [_BYTES.index(byte) + 6 for byte in piece.encode()]
        return [Token(id, piece, is_more=place > 0) for place, id in enumerate(ids)]

    def next(self, adapter: str, prompt: str, written: str) -> Chances:
        seen = self._seen.get((adapter, prompt + written))
        if seen is None:
            return self._anything
        # Whatever was not seen here is less likely than all that was.
        less = min(seen.values()) - max(self._anything.values()) - 0.01
        return {text: chance + less for text, chance in self._anything.items()} | seen

    def _zipf(self) -> dict[str, float]:
        """No two tokens as likely, and the end hardly ever, unless a grammar leaves nothing else."""
        weights = {text: 1 / rank for rank, text in enumerate(self._ids, start=2)} | {BEGIN: 1e-12, END: 1e-12}
        total = sum(weights.values())
        return {text: math.log(weight / total) for text, weight in weights.items()}

    def _learn(self, job: Job, answer: Answer) -> None:
        if answer.status != 200 or (answer.is_stream and "token" not in answer.events[0]):
            return
        adapter = job.adapter if job.adapter in ADAPTERS else ""
        pieces = self._learn_prompt(job, answer, adapter)
        text = "".join(pieces)
        for token, others in self._written(job, answer):
            seen = self._seen[adapter, text]
            told = {each["text"]: each["logprob"] for each in (*others, token)}
            seen |= {piece: logprob for piece, logprob in told.items() if logprob is not None or piece not in seen}
            text += token["text"]
        for chances in self._seen.values():
            chances |= {piece: _LIKELY for piece, logprob in chances.items() if logprob is None}

    def _learn_prompt(self, job: Job, answer: Answer, adapter: str) -> list[str]:
        """The tokens of the prompt as the model read it."""
        prefill = _details(answer).get("prefill")
        if not prefill:
            return [token.text for token in [self.token(BEGIN)] * job.adds_begin + self.tokens(job.prompt)]
        pieces = [token["text"] for token in prefill]
        if job.parameters.get("truncate") is None:
            self._read[job.prompt] = pieces[1:]
        for place, token in enumerate(prefill[1:], start=1):
            self._seen[adapter, "".join(pieces[:place])][token["text"]] = token["logprob"]
        return pieces

    def _written(self, job: Job, answer: Answer) -> Iterator[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]:
        """The tokens of an answer, and what else was likely in the place of each."""
        if answer.is_stream:
            yield from ((event["token"], event.get("top_tokens") or ()) for event in answer.events)
        elif details := _details(answer):
            yield from zip_longest(details["tokens"], details.get("top_tokens") or (), fillvalue=())
        elif not answer.is_cut:
            pieces = self._split(_text_of(job, answer), int(answer.headers["x-generated-tokens"]))
            yield from (({"text": piece, "logprob": None}, ()) for piece in pieces)

    def _longest(self, text: str) -> Iterator[str]:
        """The text in known tokens, the longest that fits at each place."""
        most = max(map(len, self._ids))
        while text:
            piece = next((text[:size] for size in range(most, 1, -1) if text[:size] in self._ids), text[0])
            yield piece
            text = text[len(piece) :]

    def _split(self, text: str, count: int) -> list[str]:
        """The text in exactly so many known tokens."""
        most = max(map(len, self._ids))
        ways: list[dict[int, int]] = [{0: 0}]  # after so many tokens, at each place that can be reached, from where
        for _ in range(count):
            ways.append(
                {
                    end: start
                    for start in ways[-1]
                    for end in range(start + 1, min(start + most, len(text)) + 1)
                    if text[start:end] in self._ids
                }
            )
        if len(text) not in ways[-1]:
            raise ValueError(f"no {count} known tokens make {text!r}")
        end, pieces = len(text), []
        for way in reversed(ways[1:]):
            pieces.append(text[way[end] : end])
            end = way[end]
        return pieces[::-1]


def _details(answer: Answer) -> Mapping[str, Any]:
    content = answer.content if not answer.is_stream else None
    return content.get("details") or {} if isinstance(content, dict) else {}


def _text_of(job: Job, answer: Answer) -> str:
    content = answer.content[0] if isinstance(answer.content, list) else answer.content
    if "choices" in content:
        choice = content["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])
    text = str(content["generated_text"])
    return text.removeprefix(job.prompt) if job.parameters.get("return_full_text") else text


def _tokens_in(record: Record) -> Iterator[Mapping[str, Any]]:
    """All tokens with their ids, wherever they stand in the answers."""
    for answer in record.answers:
        if answer.is_stream:
            yield from _found(answer.events)
        elif answer.is_json:
            yield from _found(answer.content)


def _found(content: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(content, dict):
        if "id" in content and isinstance(content.get("text"), str):
            yield content
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from _found(each)
