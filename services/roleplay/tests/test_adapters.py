"""An adapter speaks only where the server shows that it is the one that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from duologue.bus import Poison, Transient
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.models import ChatModel, ModelServer
from duologue.models.fingerprint import Fingerprint, Probe
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactStore
from duologue_roleplay.adapters import AdapterCheck
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
async def check(server: ScriptedModelServer, artifacts: ArtifactStore, clock: Clock) -> AsyncIterator[AdapterCheck]:
    async with ModelServer(server.endpoint(attempts=1)) as models:
        yield AdapterCheck(ChatModel(models), artifacts, clock)


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


async def test_the_right_adapter_is_accepted_and_asked_greedily(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    await check.check(adapter)
    assert len(server.requests) == 3
    assert {request.body["model"] for request in server.requests} == {"merged/desk-r1"}
    assert {(request.body["temperature"], request.body["max_tokens"]) for request in server.requests} == {(0.0, 8)}


async def test_a_server_that_answers_with_the_base_model_is_refused_until_it_is_mended(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    server.say = lambda _: "Base."
    with pytest.raises(Transient, match=r"merged/desk-r1 answered 0 of 3 probes .* another model is served"):
        await check.check(adapter)
    server.say = tuned
    await check.check(adapter)


async def test_an_adapter_is_checked_once_in_ten_minutes_however_many_wait_for_it(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer, clock: Clock
) -> None:
    await asyncio.gather(*(check.check(adapter) for _ in range(5)))
    clock.now += 599
    await check.check(adapter)
    assert len(server.requests) == 3
    clock.now += 1
    server.say = lambda _: "Base."
    with pytest.raises(Transient, match="another model is served"):
        await check.check(adapter)


async def test_after_its_server_was_gone_an_adapter_is_checked_again(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    await check.check(adapter)
    check.doubt()
    await check.check(adapter)
    assert len(server.requests) == 6


async def test_another_fingerprint_is_another_check(
    check: AdapterCheck,
    adapter: dialogue_pb2.AdapterRef,
    server: ScriptedModelServer,
    artifacts: ArtifactStore,
) -> None:
    await check.check(adapter)
    stored = artifacts.write(
        "adapters/desk-r1/fingerprint.json",
        FINGERPRINT.model_copy(update={"probes": FINGERPRINT.probes[:1]}).model_dump_json().encode(),
    )
    adapter.fingerprint.sha256 = stored.sha256
    await check.check(adapter)
    assert len(server.requests) == 4


async def test_the_base_model_needs_no_check(check: AdapterCheck, server: ScriptedModelServer) -> None:
    await check.check(dialogue_pb2.AdapterRef())
    assert server.requests == []


async def test_a_released_adapter_is_checked_before_anyone_asks_for_it(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    assert await check.released(release(adapter)) == []
    assert len(server.requests) == 3


async def test_a_release_waits_for_a_server_that_is_down(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, server: ScriptedModelServer
) -> None:
    server.faults = [Dropped()]
    with pytest.raises(Transient), classify_errors():
        await check.released(release(adapter))


async def test_a_fingerprint_that_is_not_there_yet_is_waited_for(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef
) -> None:
    adapter.fingerprint.uri = "adapters/desk-r2/fingerprint.json"
    with pytest.raises(Transient, match="fingerprint"), classify_errors():
        await check.released(release(adapter))


@pytest.mark.parametrize("content", [b'{"max_tokens": 8}', b"no json"])
async def test_a_fingerprint_that_is_not_one_is_poison(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, artifacts: ArtifactStore, content: bytes
) -> None:
    adapter.fingerprint.sha256 = artifacts.write(adapter.fingerprint.uri, content).sha256
    with pytest.raises(Poison, match="fingerprint of adapter desk-r1"):
        await check.check(adapter)


async def test_a_fingerprint_that_was_changed_is_poison(
    check: AdapterCheck, adapter: dialogue_pb2.AdapterRef, artifacts: ArtifactStore
) -> None:
    artifacts.write(adapter.fingerprint.uri, FINGERPRINT.model_dump_json(indent=1).encode())
    with pytest.raises(Poison, match="SHA-256"), classify_errors():
        await check.released(release(adapter))
