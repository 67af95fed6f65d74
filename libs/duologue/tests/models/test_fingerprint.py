"""Is the adapter that answers the one that was asked for?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from duologue.models import ModelRefused, ModelServer, ModelUnavailable
from duologue.models.completion import GREEDY, ChatRequest
from duologue.models.fingerprint import Fingerprint, Probe, WrongAdapter, check_adapter
from duologue.models.replica import Replica
from tests.support.model_server import Answered, Dropped, Held, ModelRequest, ScriptedModelServer


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
async def replica(server: ScriptedModelServer) -> AsyncIterator[Replica]:
    async with ModelServer(server.endpoint()) as models:
        (replica,) = models.replicas
        yield replica


def test_a_probe_that_both_answer_alike_tells_nothing() -> None:
    assert [item.messages[0]["content"] for item in FINGERPRINT.telling] == ["one", "two", "three"]


def test_a_fingerprint_is_read_back_as_it_was_written() -> None:
    assert Fingerprint.model_validate_json(FINGERPRINT.model_dump_json()) == FINGERPRINT


@pytest.mark.parametrize(("alike", "accepted"), [(3, True), (2, True), (1, False), (0, False)])
async def test_most_telling_probes_must_be_answered_as_the_adapter_does(
    replica: Replica, server: ScriptedModelServer, alike: int, accepted: bool
) -> None:
    def say(request: ModelRequest) -> str:
        place = ["one", "two", "three"].index(request.last)
        return f" Tuned {request.last}.\n" if place < alike else "Base."

    server.say = say
    if accepted:
        await check_adapter(replica.complete, "merged/x", FINGERPRINT)
    else:
        with pytest.raises(WrongAdapter, match=f"merged/x answered {alike} of 3 probes"):
            await check_adapter(replica.complete, "merged/x", FINGERPRINT)
    assert {request.body["model"] for request in server.requests} == {"merged/x"}


async def test_half_of_the_telling_probes_is_not_most(replica: Replica, server: ScriptedModelServer) -> None:
    server.say = lambda request: "Tuned one." if request.last == "one" else "Base."
    with pytest.raises(WrongAdapter):
        await check_adapter(replica.complete, "x", Fingerprint(max_tokens=8, probes=[probe("one"), probe("two")]))


async def test_probes_are_asked_greedily(replica: Replica, server: ScriptedModelServer) -> None:
    server.say = lambda request: f"Tuned {request.last}."
    await check_adapter(replica.complete, "x", FINGERPRINT)
    for request in server.requests:
        assert (request.body["temperature"], request.body["max_tokens"]) == (0.0, 16)


async def test_an_adapter_that_can_not_be_told_from_its_base_is_not_refused_for_it(
    replica: Replica, server: ScriptedModelServer
) -> None:
    await check_adapter(replica.complete, "x", Fingerprint(max_tokens=8, probes=[probe("same", "A.", "A.")]))
    await check_adapter(replica.complete, "x", Fingerprint(max_tokens=8, probes=[]))
    assert server.requests == []


async def test_what_is_wrong_is_told_with_both_sides(replica: Replica, server: ScriptedModelServer) -> None:
    server.say = lambda request: "Base." if request.last == "two" else "Who knows? " * 20
    told = (
        r"x answered 0 of 3 probes as the adapter does and 1 as the base model does: another model is served\. "
        r"It says '(Who knows\? ){7}Who\.\.\.' where the adapter says 'Tuned one\.' and the base model 'Base\.'"
    )
    with pytest.raises(WrongAdapter, match=told):
        await check_adapter(replica.complete, "x", FINGERPRINT)


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_server_that_refuses_the_probes_does_not_serve_the_adapter(
    replica: Replica, server: ScriptedModelServer, status: int
) -> None:
    server.faults = [Answered(status, "no such model")]
    with pytest.raises(WrongAdapter, match=f"x is not served: .* answered {status}: no such model"):
        await check_adapter(replica.complete, "x", FINGERPRINT)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_key_says_nothing_of_the_adapter(
    replica: Replica, server: ScriptedModelServer, status: int
) -> None:
    server.faults = [Answered(status, "no key")]
    with pytest.raises(ModelRefused):
        await check_adapter(replica.complete, "x", FINGERPRINT)


async def test_a_server_that_does_not_answer_says_nothing_of_the_adapter(
    replica: Replica, server: ScriptedModelServer
) -> None:
    server.faults = [Dropped()]
    with pytest.raises(ModelUnavailable) as raised:
        await check_adapter(replica.complete, "x", FINGERPRINT)
    assert not isinstance(raised.value, WrongAdapter)


async def test_of_a_server_that_hangs_the_probes_are_waited_for_once_for_all(server: ScriptedModelServer) -> None:
    server.faults = [Held(asyncio.Event())]
    async with ModelServer(server.endpoint(patience_seconds=0, timeout_seconds=0.2)) as models:
        models.expect("tuned", FINGERPRINT)
        (replica,) = models.replicas
        request = ChatRequest([{"role": "user", "content": "Hello."}], GREEDY, "tuned")
        asking = [replica.complete(request) for _ in range(8)]
        answers = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(answer) for answer in answers} == {ModelUnavailable}
    assert len(server.requests) == 1
