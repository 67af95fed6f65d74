"""An imitation of a model server, with the answers of `transformers serve` 5.23, scripted by the test.

libs/duologue/tests/models/test_imitation.py holds it to recorded answers of the real one.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from duologue.models import Endpoint
from tests.support.http_app import serve

CHAT, DECISIONS = "/v1/chat/completions", "/v1/systemone"

_CHAT_FIELDS = {"model", "messages", "temperature", "top_p", "max_tokens", "stop", "seed", "stream", "tools"}
_DECISION_FIELDS = {"model", "state", "questions", "assets"}
_MAX_QUESTIONS, _MAX_OPTIONS = 64, 26


@dataclass(frozen=True)
class ModelRequest:
    """What a client asked, and when (monotonic seconds)."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    at: float

    @property
    def messages(self) -> list[dict[str, str]]:
        return list(self.body["messages"])

    @property
    def system(self) -> str:
        return self.messages[0]["content"]

    @property
    def last(self) -> str:
        """The end of the prompt: for the agent what it was told to say."""
        return self.messages[-1]["content"]

    @property
    def instruction(self) -> str:
        """What stands in the prompt's last brackets, without its first words, as "Say now: "."""
        return self.last.rpartition("[")[2].partition(": ")[2].removesuffix("]")


@dataclass(frozen=True)
class Said:
    """What a model wrote. `is_cut`: it ran into max_tokens. `cached_tokens`: None for a server that does not tell."""

    text: str
    is_cut: bool = False
    prompt_tokens: int = 20
    completion_tokens: int = 5
    cached_tokens: int | None = None


@dataclass(frozen=True)
class Answered:
    """Any HTTP answer in place of the model's."""

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Dropped:
    """The connection is closed before the answer."""


@dataclass(frozen=True)
class Truncated:
    """The connection is closed in the middle of the answer."""


@dataclass(frozen=True)
class Held:
    """The answer comes once `until` is set."""

    until: asyncio.Event


Fault = Answered | Dropped | Truncated | Held
Say = Callable[[ModelRequest], Said | str]
# The probability of yes, of each option, or the option that is surely meant.
Decide = Callable[[ModelRequest, str, dict[str, Any]], float | str | Mapping[str, float]]


def overloaded(retry_after: str | None = None) -> Answered:
    return Answered(429, '{"detail":"busy"}', None if retry_after is None else {"Retry-After": retry_after})


class ScriptedModelServer:
    """Answers chat with `say` and decisions with `decide`; use as an async context manager.

    `faults` come first, one per request. `models`: names that it knows, any when empty. `busiest` is the most requests
    that it ever had at once, `given_up` has those whose client hung up before the answer.
    """

    def __init__(
        self,
        say: Say = lambda _: "Yes.",
        decide: Decide = lambda *_: 0.9,
        *,
        models: tuple[str, ...] = (),
        api_key: str = "",
    ) -> None:
        self.say = say
        self.decide = decide
        self.faults: list[Fault] = []
        self.requests: list[ModelRequest] = []
        self.given_up: list[ModelRequest] = []
        self.busiest = 0
        self.url = ""
        self._models = models
        self._api_key = api_key
        self._busy = 0
        self._closing = asyncio.Event()
        self._arrival = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post(CHAT, self._chat)
        app.router.add_post(DECISIONS, self._decisions)
        app.router.add_get("/health", _health)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_route("*", "/{rest:.*}", _not_found)
        self._runner, self.url = await serve(app, handler_cancellation=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def endpoint(self, **changes: Any) -> Endpoint:
        return Endpoint(**{"url": self.url, "model": "scripted", "timeout_seconds": 30.0} | changes)

    def asked(self, path: str) -> list[ModelRequest]:
        return [request for request in self.requests if request.path == path]

    async def arrived(self, count: int, seconds: float = 10.0) -> None:
        """Waits until so many requests have come."""
        async with asyncio.timeout(seconds), self._arrival:
            await self._arrival.wait_for(lambda: len(self.requests) >= count)

    async def _hold(self, until: asyncio.Event) -> None:
        """Until that, or the end of the server."""
        waits = [asyncio.create_task(event.wait()) for event in (until, self._closing)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _list_models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": [{"id": model, "object": "model"} for model in self._models]})

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, self._chat_refusal, self._chat_answer)

    async def _decisions(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, _decision_refusal, self._decision_answer)

    async def _answer(
        self,
        http: web.Request,
        refuse: Callable[[dict[str, Any]], web.Response | None],
        answer: Callable[[ModelRequest], dict[str, Any]],
    ) -> web.StreamResponse:
        try:
            body = json.loads(await http.read())
        except ValueError:
            return _json({"detail": [{"type": "json_invalid", "loc": ["body", 1], "msg": "JSON decode error"}]}, 422)
        request = ModelRequest(http.path, dict(http.headers), body, time.monotonic())
        async with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()
        fault = self.faults.pop(0) if self.faults else None
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            if isinstance(fault, Held):
                await self._hold(fault.until)
            elif fault is not None:
                return await _misbehave(http, fault)
            if self._api_key and request.headers.get("Authorization") != f"Bearer {self._api_key}":
                return _json({"detail": "wrong key"}, 401)
            if (refusal := refuse(body)) is not None:
                return refusal
            if "model" not in body or (self._models and body["model"] not in self._models):
                return web.Response(status=500, text="Internal Server Error")
            return _json(answer(request))
        except asyncio.CancelledError:
            self.given_up.append(request)
            raise
        finally:
            self._busy -= 1

    def _chat_refusal(self, body: dict[str, Any]) -> web.Response | None:
        unexpected = set(body) - _CHAT_FIELDS
        return _json({"detail": f"Unexpected fields in the request: {unexpected}"}, 422) if unexpected else None

    def _chat_answer(self, request: ModelRequest) -> dict[str, Any]:
        said = self.say(request)
        if isinstance(said, str):
            said = Said(said)
        cached = {} if said.cached_tokens is None else {"prompt_tokens_details": {"cached_tokens": said.cached_tokens}}
        return {
            "id": str(uuid.uuid4()),
            "choices": [
                {
                    "finish_reason": "length" if said.is_cut else "stop",
                    "index": 0,
                    "message": {"content": said.text, "role": "assistant"},
                }
            ],
            "created": int(time.time()),
            "model": f"{request.body['model']}@main",
            "object": "chat.completion",
            "usage": {
                "completion_tokens": said.completion_tokens,
                "prompt_tokens": said.prompt_tokens,
                "total_tokens": said.prompt_tokens + said.completion_tokens,
                **cached,
            },
        }

    def _decision_answer(self, request: ModelRequest) -> dict[str, Any]:
        questions = request.body["questions"]
        answers = {
            name: _decided(question, self.decide(request, name, question)) for name, question in questions.items()
        }
        usage = {"input_tokens": 30 * len(questions), "output_tokens": 0}
        return {"model": request.body["model"], "answers": answers, "usage": usage}


async def _health(_: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _not_found(_: web.Request) -> web.Response:
    return _json({"detail": "Not Found"}, 404)


def _decided(question: dict[str, Any], answer: float | str | Mapping[str, float]) -> dict[str, Any]:
    if question["type"] == "noul":
        return {"type": "noul", "noul": answer}
    options = list(question["criteria"])
    if isinstance(answer, str):
        answer = {option: float(option == answer) for option in options}
    elif not isinstance(answer, Mapping):
        rest = (1 - answer) / max(len(options) - 1, 1)
        answer = {option: answer if index == 0 else rest for index, option in enumerate(options)}
    probabilities = {option: answer[option] for option in options}
    best = max(probabilities, key=probabilities.__getitem__)
    confidence = (
        1.0 if len(options) == 1 else max(0.0, (probabilities[best] - 1 / len(options)) / (1 - 1 / len(options)))
    )
    return {"type": "choice", "choice": best, "confidence": confidence, "probabilities": probabilities}


def _decision_refusal(body: dict[str, Any]) -> web.Response | None:
    found = next(_decision_mistakes(body), None)
    if found is None:
        return None
    kind, field, message = found
    return _json({"detail": [{"loc": ["body", field], "msg": message, "type": kind}]}, 422)


def _decision_mistakes(body: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for field in sorted(set(body) - _DECISION_FIELDS):
        yield "extra_forbidden", field, "Extra inputs are not permitted"
    questions = body.get("questions") or {}
    if not questions:
        yield "too_short", "questions", "Dictionary should have at least 1 item after validation, not 0"
    if len(questions) > _MAX_QUESTIONS:
        yield "too_long", "questions", "Dictionary should have at most 64 items after validation, not more"
    for name, question in questions.items():
        kind, options = question.get("type"), question.get("criteria") or {}
        message = ""
        if kind not in ("noul", "choice", "score"):
            message = f"`type` must be one of noul, choice, score, got {kind!r}."
        elif kind == "choice" and not options:
            message = "a choice question needs `criteria` with its options."
        elif kind == "choice" and len(options) > _MAX_OPTIONS:
            message = (
                f"this model reads at most {_MAX_OPTIONS} options for a choice question, got {len(options)} "
                "(`labels.choice` in its decision config)."
            )
        if message:
            yield "value_error", "questions", f"Question {name!r}: {message}"


async def _misbehave(http: web.Request, fault: Answered | Dropped | Truncated) -> web.StreamResponse:
    if isinstance(fault, Answered):
        body = fault.body.encode() if isinstance(fault.body, str) else fault.body
        return web.Response(status=fault.status, body=body, headers=dict(fault.headers or {}))
    if isinstance(fault, Truncated):
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        await response.prepare(http)
        await response.write(b'{"choices": [')
    if http.transport is not None:
        http.transport.abort()
    return web.Response()


def _json(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(document), content_type="application/json")
