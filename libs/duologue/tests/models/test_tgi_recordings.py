"""What the client makes of each of the 180 recorded answers of a real TGI: a completion, or the right kind of error.

Every answer is served again as it was, and asked for by the part of the client that would meet it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from duologue.models import Endpoint, ModelRefused, ModelUnavailable
from duologue.models.backends.openai import OpenAIBackend
from duologue.models.backends.tgi import TgiBackend
from duologue.models.capabilities import Capabilities, probe
from duologue.models.completion import ChatRequest, Completion, Sampling
from duologue.models.connection import Connection
from duologue.models.dialects import OTHER
from tests.support.answering_server import AnsweringServer, Reply
from tests.support.requirements import require_tgi
from tests.support.tgi_recordings import Answer, Record, recorded

RECORDS = recorded()
TGI = Capabilities("TGI 3.3.7", "tgi")
BY_NAME = {record.name: record for record in RECORDS}
CHAT, GENERATE = "/v1/chat/completions", "/generate"
# The client never sends these two.
UNHEARD = {"head_health", "options_generate"}
PASSING, LASTING = (424, 429, 503), (400, 401, 404, 405, 413, 415, 422)


def each(*paths: str) -> list[Any]:
    """The answers to requests of these paths, all others for none."""
    others = (GENERATE, CHAT)
    return [
        pytest.param(record, answer, id=f"{record.name}-{place}" if record.at_once > 1 else record.name)
        for record in RECORDS
        if record.name not in UNHEARD
        if record.path in paths or (not paths and record.path not in others)
        for place, answer in enumerate(record.answers)
    ]


def test_no_record_is_left_out() -> None:
    require_tgi()
    heard = {param.values[0].name for param in (*each(GENERATE), *each(CHAT), *each())}
    assert heard | UNHEARD == BY_NAME.keys()
    assert len(heard) == 178
    statuses = {answer.status for record in RECORDS for answer in record.answers}
    assert statuses == {200, *PASSING, *LASTING}


@pytest.mark.parametrize(("record", "answer"), each(GENERATE))
async def test_generate_becomes_a_completion_or_an_error(record: Record, answer: Answer) -> None:
    stop = _parameters(record).get("stop") or []
    async with served(GENERATE, answer) as server:
        asking = _ask(server, lambda connection, endpoint: TgiBackend(connection, endpoint, TGI, (), None), stop)
        if answer.status != 200 or "details" not in answer.content:
            await assert_error(asking, answer)
            return
        completion = await asking
    details = answer.content["details"]
    text = answer.content["generated_text"]
    is_stopped = details["finish_reason"] == "stop_sequence"
    assert completion.text == (text.removesuffix(stop[0]) if is_stopped else text)
    assert completion.is_cut == (details["finish_reason"] == "length")
    assert completion.prompt_tokens == int(answer.headers["x-prompt-tokens"]) > 0
    assert completion.completion_tokens == details["generated_tokens"]
    tops = details.get("top_tokens", [])
    assert [choice.text for choice in completion.tokens] == [token["text"] for token in details["tokens"]][: len(tops)]
    for choice, token, top in zip(completion.tokens, details["tokens"], tops, strict=False):
        assert choice.logprobs == {each["text"]: each["logprob"] for each in (*top, token)}


@pytest.mark.parametrize(("record", "answer"), each(CHAT))
async def test_chat_becomes_a_completion_or_an_error(record: Record, answer: Answer) -> None:
    async with served(CHAT, answer) as server:
        asking = _ask(server, lambda connection, _: OpenAIBackend(connection, OTHER))
        if answer.status != 200 or answer.is_stream:
            await assert_error(asking, answer)
            return
        completion = await asking
    choice, usage = answer.content["choices"][0], answer.content["usage"]
    assert completion.text == choice["message"]["content"]
    assert completion.is_cut == (choice["finish_reason"] == "length")
    assert (completion.prompt_tokens, completion.completion_tokens) == (
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
    told = (choice["logprobs"] or {"content": []})["content"]
    assert [token.text for token in completion.tokens] == [token["token"] for token in told]


@pytest.mark.parametrize(("record", "answer"), each())
async def test_any_other_answer_is_taken_or_refused_by_its_status_and_shape(record: Record, answer: Answer) -> None:
    async with (
        served(record.path, answer) as server,
        Connection(server.url, server.endpoint()) as connection,
    ):
        shape = list if answer.is_json and isinstance(answer.content, list) else dict
        is_get = record.method == "GET"
        asking = connection.get(record.path, 10.0) if is_get else connection.post(record.path, {}, shape)
        if answer.status != 200 or (answer.is_stream and not is_get):
            await assert_error(asking, answer)
        elif is_get:
            assert await asking == answer.text.encode()
        else:
            assert (await asking).content == answer.content


@pytest.mark.parametrize("name", ["get_info", "lora_get_info", "apikey_missing_info", "shard_dead_info"])
async def test_what_tgi_says_of_itself_is_understood(name: str) -> None:
    require_tgi()
    (answer,) = BY_NAME[name].answers
    async with served("/info", answer) as server, Connection(server.url, server.endpoint()) as connection:
        known = await probe(connection, "auto", "tgi")
    info = answer.content
    assert (known.api, known.server, known.models) == ("tgi", f"TGI {info['version']}", ("/data/model",))
    assert (known.max_tokens, known.most_stops) == (320, 4)
    assert known.most_requests == info["max_concurrent_requests"]
    assert known.has_patterns
    assert known.top_logprobs == 5


async def test_an_error_in_a_stream_that_began_well_is_no_completion() -> None:
    require_tgi()
    (answer,) = BY_NAME["shard_dead_chat_stream"].answers
    async with served(CHAT, answer) as server:
        with pytest.raises(ModelUnavailable, match="answered 200 with something that is not JSON"):
            await _ask(server, lambda connection, _: OpenAIBackend(connection, OTHER))


def served(path: str, answer: Answer) -> AnsweringServer:
    """Beside the answer, what the same TGI said of tokens and its template: the backend asks for a prompt first."""
    asked_before = {name: BY_NAME[name] for name in ("tokenize", "chat_tokenize")}
    answers = {record.path: _reply(record.answers[0]) for record in asked_before.values()}
    return AnsweringServer(answers | {path: _reply(answer)})


def _reply(answer: Answer) -> Reply:
    """As it came, but for the headers that the transfer itself needs."""
    kept = {name: value for name, value in answer.headers.items() if name.startswith("x-") or name == "content-type"}
    return Reply(answer.text, answer.status, kept)


async def _ask(server: AnsweringServer, backend: Any, stop: Any = ()) -> Completion:
    endpoint: Endpoint = server.endpoint(model="tgi")
    async with Connection(server.url, endpoint) as connection:
        request = ChatRequest([{"role": "user", "content": "hi"}], Sampling(), "tgi", stop, top_logprobs=5)
        completion: Completion = await backend(connection, endpoint).complete(request)
        return completion


async def assert_error(asking: Any, answer: Answer) -> None:
    """It passes, or it lasts, by the status; an answer of 200 that is none may be another one the next time."""
    kind = ModelRefused if answer.status in LASTING else ModelUnavailable
    with pytest.raises(kind) as caught:
        await asking
    assert caught.value.status == (0 if answer.status == 200 else answer.status)
    if answer.is_json and "error_type" in answer.text:
        assert json.loads(caught.value.answer) == answer.content
    if answer.status == 429:
        assert caught.value.retry_after == 0


def _parameters(record: Record) -> Mapping[str, Any]:
    parameters = record.body.get("parameters") if isinstance(record.body, dict) else None
    return parameters or {}
