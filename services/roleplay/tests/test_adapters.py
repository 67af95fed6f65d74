"""An adapter speaks only where the server shows that it is the one that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from duologue.bus import Poison, Transient
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.prompts import Message
from duologue.models import ChatModel, ModelServer, Sampling
from duologue.models.fingerprint import Fingerprint, Probe
from duologue.models.trust import TOLD_SECONDS, WRONG_SECONDS
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactStore
from duologue_roleplay.adapters import Adapters
from tests.support.model_server import Dropped, ModelRequest, ScriptedModelServer

FINGERPRINT = Fingerprint(
    max_tokens=8,
    probes=[
        Probe(messages=[{"role": "user", "content": word}], base="Base.", adapter=f"Tuned {word}.")
        for word in ("one", "two", "three")
    ],
)


def tuned(request: ModelRequest) -> str:
    return f"Tuned {request.last}." if request.body["model"] == "merged/desk-r1" else "Base."


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(tuned) as server:
        yield server


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def agent(server: ScriptedModelServer, clock: Clock) -> AsyncIterator[ModelServer]:
    async with ModelServer(server.endpoint(patience_seconds=0), clock=clock) as models:
        yield models


@pytest.fixture
def adapters(agent: ModelServer, artifacts: ArtifactStore) -> Adapters:
    return Adapters(agent, artifacts)


@pytest.fixture
def adapter(artifacts: ArtifactStore) -> dialogue_pb2.AdapterRef:
    stored = artifacts.write("adapters/desk-r1/fingerprint.json", FINGERPRINT.model_dump_json().encode())
    return dialogue_pb2.AdapterRef(
        id="desk-r1",
        served_model="merged/desk-r1",
        fingerprint=dialogue_pb2.Artifact(uri=stored.uri, sha256=stored.sha256),
    )


def release(adapter: dialogue_pb2.AdapterRef) -> events_pb2.AdapterReleased:
    return events_pb2.AdapterReleased(agent="desk", adapter=adapter, cause="gate")


async def say(agent: ModelServer, model: str = "merged/desk-r1") -> str:
    """What the agent says once its adapter is known to be served."""
    messages: list[Message] = [{"role": "user", "content": "Hello."}]
    with classify_errors():
        return (await ChatModel(agent).complete(messages, Sampling(), model=model)).text


async def test_an_adapter_speaks_once_it_has_answered_its_probes_greedily(
    adapters: Adapters, agent: ModelServer, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    await adapters.expect(adapter)
    assert await say(agent) == "Tuned Hello.."
    *probes, said = server.requests
    assert len(probes) == 3
    assert {request.body["model"] for request in server.requests} == {"merged/desk-r1"}
    assert {(request.body["temperature"], request.body["max_tokens"]) for request in probes} == {(0.0, 8)}
    assert said.body["temperature"] > 0


async def test_a_server_that_answers_with_the_base_model_says_nothing_until_it_is_mended(
    adapters: Adapters,
    agent: ModelServer,
    adapter: dialogue_pb2.AdapterRef,
    server: ScriptedModelServer,
    clock: Clock,
) -> None:
    await adapters.expect(adapter)
    server.say = lambda _: "Base."
    with pytest.raises(Transient, match=r"merged/desk-r1 answered 0 of 3 probes .* another model is served"):
        await say(agent)
    assert wrong(server) == 1
    assert await say(agent, "scripted") == "Base."
    server.say = tuned
    clock.now += WRONG_SECONDS
    assert await say(agent) == "Tuned Hello.."
    assert wrong(server) == 0


async def test_dialogues_that_wait_for_a_server_to_be_mended_do_not_each_ask_it_all_probes(
    adapters: Adapters,
    agent: ModelServer,
    adapter: dialogue_pb2.AdapterRef,
    server: ScriptedModelServer,
    clock: Clock,
) -> None:
    await adapters.expect(adapter)
    server.say = lambda _: "Base."
    refused = await asyncio.gather(*(say(agent) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in refused} == {Transient}
    assert len(server.requests) == 3
    clock.now += WRONG_SECONDS
    with pytest.raises(Transient, match="another model is served"):
        await say(agent)
    assert len(server.requests) == 6


async def test_what_nobody_asks_for_any_more_is_not_told_as_wrong_for_ever(
    adapters: Adapters,
    agent: ModelServer,
    adapter: dialogue_pb2.AdapterRef,
    server: ScriptedModelServer,
    clock: Clock,
) -> None:
    await adapters.expect(adapter)
    server.say = lambda _: "Base."
    with pytest.raises(Transient):
        await say(agent)
    clock.now += TOLD_SECONDS - 1
    assert wrong(server) == 1
    clock.now += 1
    assert wrong(server) == 0


def wrong(server: ScriptedModelServer) -> float | None:
    labels = {"server": server.url, "model": "merged/desk-r1"}
    return REGISTRY.get_sample_value("duologue_model_wrong_adapter", labels)


async def test_an_adapter_is_checked_once_in_five_minutes_however_many_ask_for_it(
    adapters: Adapters,
    agent: ModelServer,
    adapter: dialogue_pb2.AdapterRef,
    server: ScriptedModelServer,
    clock: Clock,
) -> None:
    await adapters.expect(adapter)
    await asyncio.gather(*(say(agent) for _ in range(5)))
    clock.now += 299
    await say(agent)
    assert len(server.requests) == 3 + 6
    clock.now += 1
    server.say = lambda _: "Base."
    with pytest.raises(Transient, match="another model is served"):
        await say(agent)


async def test_after_its_server_was_gone_an_adapter_is_checked_again(
    adapters: Adapters, agent: ModelServer, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    await adapters.expect(adapter)
    await say(agent)
    server.faults = [Dropped()]
    with pytest.raises(Transient):
        await say(agent)
    server.requests.clear()
    await say(agent)
    assert len(server.requests) == 4


async def test_another_fingerprint_is_another_check(
    adapters: Adapters,
    agent: ModelServer,
    adapter: dialogue_pb2.AdapterRef,
    server: ScriptedModelServer,
    artifacts: ArtifactStore,
) -> None:
    await adapters.expect(adapter)
    await say(agent)
    stored = artifacts.write(
        "adapters/desk-r1/fingerprint.json",
        FINGERPRINT.model_copy(update={"probes": FINGERPRINT.probes[:1]}).model_dump_json().encode(),
    )
    adapter.fingerprint.sha256 = stored.sha256
    await adapters.expect(adapter)
    server.requests.clear()
    await say(agent)
    assert len(server.requests) == 2


async def test_the_base_model_needs_no_check(adapters: Adapters, server: ScriptedModelServer) -> None:
    await adapters.expect(dialogue_pb2.AdapterRef())
    assert server.requests == []


async def test_a_released_adapter_is_checked_before_anyone_asks_for_it(
    adapters: Adapters, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    assert await adapters.released(release(adapter)) == []
    assert len(server.requests) == 3


async def test_a_canary_is_checked_before_anyone_asks_for_it(
    adapters: Adapters, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    event = events_pb2.AdapterReleased(agent="desk", canary=adapter, canary_share=0.1, cause="canary")
    assert await adapters.released(event) == []
    assert len(server.requests) == 3


async def test_a_release_waits_for_a_server_that_is_down(
    adapters: Adapters, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    server.faults = [Dropped()]
    with pytest.raises(Transient), classify_errors():
        await adapters.released(release(adapter))


async def test_a_fingerprint_that_is_not_there_yet_is_waited_for(
    adapters: Adapters, adapter: dialogue_pb2.AdapterRef
) -> None:
    adapter.fingerprint.uri = "adapters/desk-r2/fingerprint.json"
    with pytest.raises(Transient, match="fingerprint"), classify_errors():
        await adapters.released(release(adapter))


@pytest.mark.parametrize("content", [b'{"max_tokens": 8}', b"no json"])
async def test_a_fingerprint_that_is_not_one_is_poison(
    adapters: Adapters, adapter: dialogue_pb2.AdapterRef, artifacts: ArtifactStore, content: bytes
) -> None:
    adapter.fingerprint.sha256 = artifacts.write(adapter.fingerprint.uri, content).sha256
    with pytest.raises(Poison, match="fingerprint of adapter desk-r1"):
        await adapters.expect(adapter)


async def test_a_fingerprint_that_was_changed_is_poison(
    adapters: Adapters, adapter: dialogue_pb2.AdapterRef, artifacts: ArtifactStore
) -> None:
    artifacts.write(adapter.fingerprint.uri, FINGERPRINT.model_dump_json(indent=1).encode())
    with pytest.raises(Poison, match="SHA-256"), classify_errors():
        await adapters.released(release(adapter))
