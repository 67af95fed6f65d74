"""Chat completions: what is asked, and what is made of the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from duologue.core.prompts import Message
from duologue.core.usage import Usage
from duologue.models import Caller, ChatModel, Completion, ModelServer, ModelUnavailable, Sampling
from duologue.models.completion import ChatRequest
from tests.support.model_server import Answered, Held, Said, ScriptedModelServer

HELLO: list[Message] = [{"role": "user", "content": "Hello."}]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(lambda _: Said("Hi.", prompt_tokens=12, completion_tokens=3)) as server:
        yield server


@pytest.fixture
async def chat(server: ScriptedModelServer) -> AsyncIterator[ChatModel]:
    async with ModelServer(server.endpoint(patience_seconds=0)) as models:
        yield ChatModel(models)


async def test_text_and_tokens_are_the_server_s(chat: ChatModel) -> None:
    completion = await chat.complete(HELLO, Sampling())
    assert (completion.text, completion.is_cut) == ("Hi.", False)
    assert (completion.prompt_tokens, completion.completion_tokens) == (12, 3)
    assert completion.seconds > 0


async def test_what_is_asked_is_what_the_caller_said(chat: ChatModel, server: ScriptedModelServer) -> None:
    await chat.complete(HELLO, Sampling(0.5, 0.75, 40), model="other", stop=("Client:",), seed=5)
    assert server.requests[0].body == {
        "model": "other",
        "messages": HELLO,
        "temperature": 0.5,
        "top_p": 0.75,
        "max_tokens": 40,
        "stop": ["Client:"],
        "seed": 5,
    }


async def test_what_the_caller_left_out_is_not_sent(chat: ChatModel, server: ScriptedModelServer) -> None:
    await chat.complete(HELLO, Sampling())
    body = server.requests[0].body
    assert body["model"] == chat.default_model == "scripted"
    assert "stop" not in body
    assert "seed" not in body


async def test_an_answer_that_ran_into_the_limit_is_cut(chat: ChatModel, server: ScriptedModelServer) -> None:
    server.say = lambda _: Said("Hi. And th", is_cut=True)
    assert (await chat.complete(HELLO, Sampling())).is_cut


async def test_what_the_server_had_in_its_prefix_cache_is_told_apart_from_what_it_does_not_tell(
    chat: ChatModel, server: ScriptedModelServer
) -> None:
    # vLLM leaves the number out where it is 0 (its issue 44377)
    told = [None, 8, None, 0, 20]
    found = []
    for cached in told:
        server.say = lambda _, cached=cached: Said("Hi.", prompt_tokens=12, completion_tokens=3, cached_tokens=cached)
        found.append(await chat.complete(HELLO, Sampling()))
    assert [completion.cached_tokens for completion in found] == [None, 8, 0, 0, 20]
    assert [completion.usage.cached_share for completion in found] == [None, 8 / 12, 0, 0, 1]


@pytest.mark.parametrize(
    ("message", "usage", "expected"),
    [
        ({"content": None}, {"prompt_tokens": 1, "completion_tokens": 0}, ("", 1, 0)),
        ({"content": "Hi."}, None, ("Hi.", 0, 0)),
        ({"content": "Hi."}, {"prompt_tokens": None}, ("Hi.", 0, 0)),
    ],
)
async def test_what_a_server_leaves_out_counts_as_nothing(
    chat: ChatModel, server: ScriptedModelServer, message: object, usage: object, expected: tuple[str, int, int]
) -> None:
    answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    server.faults = [Answered(200, json.dumps(answer))]
    completion = await chat.complete(HELLO, Sampling())
    assert (completion.text, completion.prompt_tokens, completion.completion_tokens) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        '{"choices": []}',
        '{"choices": null}',
        '{"choices": [{}]}',
        '{"choices": [{"message": null}]}',
        '{"choices": [{"message": {"content": "Hi."}}], "usage": {"prompt_tokens": "many"}}',
        '{"choices": [{"message": {"content": "Hi."}}], "usage": {"prompt_tokens": NaN}}',
        '{"error": {"message": "shard died"}}',
    ],
)
async def test_an_answer_of_another_shape_is_no_answer(
    chat: ChatModel, server: ScriptedModelServer, answer: str
) -> None:
    server.faults = [Answered(200, answer)]
    with pytest.raises(ModelUnavailable, match="a chat answer without a message"):
        await chat.complete(HELLO, Sampling())


async def test_half_a_surrogate_pair_does_not_go_on(server: ScriptedModelServer, chat: ChatModel) -> None:
    server.say = lambda _: "So \ud83d what?"
    assert (await chat.complete(HELLO, Sampling())).text == "So ? what?"


async def test_half_a_surrogate_pair_of_a_prompt_is_sent_as_it_is(server: ScriptedModelServer, chat: ChatModel) -> None:
    await chat.complete([{"role": "user", "content": "So \ud83d what?"}], Sampling())
    assert server.requests[0].body["messages"][0]["content"] == "So \ud83d what?"


async def test_seconds_are_those_of_the_answer_and_not_what_it_waited_for(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedModelServer
) -> None:
    now = 0.0
    monkeypatch.setattr("duologue.models.chat.time.perf_counter", lambda: now)

    class Answering:
        url = "http://answering"

        def used(self, usage: Usage) -> None: ...

        async def complete(self, request: ChatRequest) -> Completion:
            nonlocal now
            now += 2.0
            return Completion("Hi.", False, 5, 2)

    class WaitingServer(ModelServer):
        async def ask(self, caller: Caller, question: Callable[[Any], Awaitable[Any]]) -> Any:
            nonlocal now
            now += 100.0
            return await question(Answering())

    completion = await ChatModel(WaitingServer(server.endpoint())).complete(HELLO, Sampling())
    assert completion.seconds == 2.0


async def test_a_slow_answer_is_waited_for_within_the_limit(server: ScriptedModelServer, chat: ChatModel) -> None:
    release = asyncio.Event()
    server.faults = [Held(release)]
    asking = asyncio.create_task(chat.complete(HELLO, Sampling()))
    await server.arrived(1)
    release.set()
    assert (await asking).text == "Hi."
