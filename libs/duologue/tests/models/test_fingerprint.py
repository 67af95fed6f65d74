"""Is the adapter that answers the one that was asked for, and does a model server answer at all?"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duologue.models import ChatModel, ModelServer, ModelUnavailable
from duologue.models.check import check_chat, check_decisions
from duologue.models.fingerprint import Fingerprint, Probe, WrongAdapter, check_adapter
from tests.support.model_server import DECISIONS, Answered, Dropped, ModelRequest, ScriptedModelServer


def probe(word: str, base: str = "Base.", adapter: str = "") -> Probe:
    return Probe(messages=[{"role": "user", "content": word}], base=base, adapter=adapter or f"Tuned {word}.")


FINGERPRINT = Fingerprint(
    max_tokens=16, probes=[probe("one"), probe("two"), probe("three"), probe("same", "A.", "A. ")]
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer() as server:
        yield server


@pytest.fixture
async def chat(server: ScriptedModelServer) -> AsyncIterator[ChatModel]:
    async with ModelServer(server.endpoint(attempts=1)) as models:
        yield ChatModel(models)


def test_a_probe_that_both_answer_alike_tells_nothing() -> None:
    assert [item.messages[0]["content"] for item in FINGERPRINT.telling] == ["one", "two", "three"]


def test_a_fingerprint_is_read_back_as_it_was_written() -> None:
    assert Fingerprint.model_validate_json(FINGERPRINT.model_dump_json()) == FINGERPRINT


@pytest.mark.parametrize(("alike", "accepted"), [(3, True), (2, True), (1, False), (0, False)])
async def test_most_telling_probes_must_be_answered_as_the_adapter_does(
    chat: ChatModel, server: ScriptedModelServer, alike: int, accepted: bool
) -> None:
    def say(request: ModelRequest) -> str:
        place = ["one", "two", "three"].index(request.last)
        return f" Tuned {request.last}.\n" if place < alike else "Base."

    server.say = say
    if accepted:
        await check_adapter(chat, "merged/x", FINGERPRINT)
    else:
        with pytest.raises(WrongAdapter, match=f"merged/x answered {alike} of 3 probes"):
            await check_adapter(chat, "merged/x", FINGERPRINT)
    assert {request.body["model"] for request in server.requests} == {"merged/x"}


async def test_half_of_the_telling_probes_is_not_most(chat: ChatModel, server: ScriptedModelServer) -> None:
    server.say = lambda request: "Tuned one." if request.last == "one" else "Base."
    with pytest.raises(WrongAdapter):
        await check_adapter(chat, "x", Fingerprint(max_tokens=8, probes=[probe("one"), probe("two")]))


async def test_probes_are_asked_greedily(chat: ChatModel, server: ScriptedModelServer) -> None:
    server.say = lambda request: f"Tuned {request.last}."
    await check_adapter(chat, "x", FINGERPRINT)
    for request in server.requests:
        assert (request.body["temperature"], request.body["max_tokens"]) == (0.0, 16)


async def test_an_adapter_that_can_not_be_told_from_its_base_is_not_refused_for_it(
    chat: ChatModel, server: ScriptedModelServer
) -> None:
    await check_adapter(chat, "x", Fingerprint(max_tokens=8, probes=[probe("same", "A.", "A.")]))
    await check_adapter(chat, "x", Fingerprint(max_tokens=8, probes=[]))
    assert server.requests == []


async def test_a_server_that_does_not_answer_says_nothing_of_the_adapter(
    chat: ChatModel, server: ScriptedModelServer
) -> None:
    server.faults = [Dropped()]
    with pytest.raises(ModelUnavailable):
        await check_adapter(chat, "x", FINGERPRINT)


async def test_a_server_that_answers_passes_the_check(server: ScriptedModelServer) -> None:
    chat = await check_chat("client", server.endpoint())
    decisions = await check_decisions("manager", server.endpoint())
    assert (chat.part, chat.url, chat.model, chat.problem) == ("client", server.url, "scripted", "")
    assert (decisions.part, decisions.problem) == ("manager", "")
    assert chat.seconds > 0
    assert server.requests[0].body["max_tokens"] == 1
    assert server.requests[1].path == DECISIONS


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Answered(401, "no key"), "Set models.agent.api_key."),
        (Answered(404, "no model"), "check models.agent.model and models.agent.url."),
        (Answered(422, "no such field"), "check models.agent.model and models.agent.url."),
        (Answered(503), "check models.agent.model and models.agent.url."),
        (Dropped(), "check models.agent.model and models.agent.url."),
        (Answered(200, "{}"), "check models.agent.model and models.agent.url."),
    ],
)
async def test_a_check_that_fails_says_what_to_do_and_is_not_repeated(
    server: ScriptedModelServer, fault: Answered | Dropped, advice: str
) -> None:
    for check in (check_chat, check_decisions):
        server.requests.clear()
        server.faults = [fault]
        found = await check("agent", server.endpoint(attempts=20))
        assert advice in found.problem
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 404])
async def test_an_unknown_model_is_named_with_those_that_the_server_lists(status: int) -> None:
    async with ScriptedModelServer(models=("tiny", "tiny-agent")) as server:
        server.faults = [Answered(status)]
        found = await check_chat("agent", server.endpoint(model="tinny"))
    assert "does it serve 'tinny'? It lists tiny, tiny-agent.\n" in found.problem
    assert "models.agent.model" in found.problem
    assert "Start the server" not in found.problem


async def test_a_server_that_is_not_there_is_found_out_in_seconds(server: ScriptedModelServer) -> None:
    found = await check_chat("client", server.endpoint(url="http://127.0.0.1:9", attempts=20, timeout_seconds=3600))
    assert "models.client.url" in found.problem
    assert found.seconds < 5
