"""A campaign is cancelled while its dialogues are played: their requests to model servers are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from operator import attrgetter
from pathlib import Path

import pytest

from duologue.bus import Worker
from duologue.bus.codec import encode
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.retry import RetryPolicy
from duologue.contracts.topics import CAMPAIGN_CANCELLED, DIALOGUE_GENERATED, DIALOGUE_REQUESTED
from duologue.contracts.v1 import events_pb2
from duologue.models import ChatModel, DecisionModel, Gates, ModelServer
from duologue.models.limit import START
from duologue.runtime.cancellations import Cancellations
from duologue.runtime.runtime import record_handler
from duologue.store import ArtifactStore, WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.worker import PlayDialogue
from tests.support.bus_work import PATIENCE_SECONDS, at_work
from tests.support.desk import CAMPAIGN_ID, DESK, requested
from tests.support.desk_models import deciding, obedient
from tests.support.eventually import eventually
from tests.support.model_server import CHAT, DECISIONS, Held, ScriptedModelServer

OTHER = "5d0f6d6e-0000-5a55-8d7e-0f2f4a0f5a11"


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


@asynccontextmanager
async def role_play(
    bus: EmbeddedBus, server: ScriptedModelServer, folder: Path, *, speculate: bool = False, connections: int = 32
) -> AsyncIterator[None]:
    """Role-play at work, as its service sets it up."""
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(ModelServer(server.endpoint(connections=connections), Gates()))
        workflows, chat = WorkflowStore(ArtifactStore(str(folder))), ChatModel(models)
        workflows.put(DESK)
        self_talk = SelfTalk(chat, chat, DecisionModel(models), speculate=speculate)
        play = PlayDialogue(self_talk, workflows, Adapters(models, ArtifactStore(str(folder))))
        cancellations = Cancellations(bus)
        worker = Worker(
            bus,
            DIALOGUE_REQUESTED,
            "roleplay",
            record_handler(DIALOGUE_REQUESTED, events_pb2.DialogueRequested, play.handle),
            concurrency=32,
            retry=RetryPolicy(),
            is_cancelled=cancellations.among(events_pb2.DialogueRequested, attrgetter("campaign_id")),
        )
        cancellations.tell(worker.drop_cancelled)
        following = asyncio.create_task(cancellations.follow())
        await cancellations.known.wait()
        async with at_work(worker):
            yield
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def ask_for(bus: EmbeddedBus, campaign_id: str, count: int) -> None:
    requests = [requested(dialogue_id=f"{campaign_id[:8]}-{n}", campaign_id=campaign_id) for n in range(count)]
    await bus.publish([encode(DIALOGUE_REQUESTED, request, "test") for request in requests])


async def cancel(bus: EmbeddedBus, campaign_id: str) -> None:
    event = events_pb2.CampaignCancelled(campaign_id=campaign_id, cancelled_at="2026-01-01T00:00:00Z")
    await bus.publish([encode(CAMPAIGN_CANCELLED, event, "test")])


async def all_is_done(bus: EmbeddedBus) -> None:
    async def claimed() -> bool:
        return not await bus.lag(DIALOGUE_REQUESTED.consumer_group("roleplay"), DIALOGUE_REQUESTED.name)

    await eventually(claimed, "all requests are done", PATIENCE_SECONDS)


async def given_up(server: ScriptedModelServer, count: int) -> None:
    async def claimed() -> bool:
        return len(server.given_up) == count

    await eventually(claimed, f"{count} requests are dropped", PATIENCE_SECONDS)


async def generated(bus: EmbeddedBus) -> list[str]:
    records = [delivery.record async for delivery in bus.read(DIALOGUE_GENERATED.name)]
    return [events_pb2.DialogueGenerated.FromString(record.value).dialogue.campaign_id for record in records]


def passing() -> Held:
    at_once = asyncio.Event()
    at_once.set()
    return Held(at_once)


async def test_all_requests_of_a_dialogue_are_dropped_also_one_that_was_made_ahead(
    bus: EmbeddedBus, server: ScriptedModelServer, tmp_path: Path
) -> None:
    never = asyncio.Event()
    server.faults = [passing(), passing(), Held(never), Held(never)]  # agent, client, then manager and agent at once
    await ask_for(bus, CAMPAIGN_ID, 1)
    async with role_play(bus, server, tmp_path, speculate=True):
        await server.arrived(4)
        await cancel(bus, CAMPAIGN_ID)
        await all_is_done(bus)
        await given_up(server, 2)
    assert {request.path for request in server.given_up} == {CHAT, DECISIONS}
    assert len(server.requests) == 4
    assert await generated(bus) == []


async def test_dialogues_of_another_campaign_are_played_on(
    bus: EmbeddedBus, server: ScriptedModelServer, tmp_path: Path
) -> None:
    release = asyncio.Event()
    server.faults = [Held(release) for _ in range(START)]  # all that a server is given at first
    await ask_for(bus, CAMPAIGN_ID, START - 2)
    await ask_for(bus, OTHER, 2)
    async with role_play(bus, server, tmp_path):
        await server.arrived(START)
        await cancel(bus, CAMPAIGN_ID)
        await given_up(server, START - 2)
        release.set()
        await all_is_done(bus)
    assert await generated(bus) == [OTHER, OTHER]


async def test_a_dialogue_that_waits_for_room_at_a_server_makes_room_for_those_behind_it(
    bus: EmbeddedBus, server: ScriptedModelServer, tmp_path: Path
) -> None:
    server.faults = [Held(asyncio.Event())]
    await ask_for(bus, CAMPAIGN_ID, 5)
    async with role_play(bus, server, tmp_path, connections=1):
        await server.arrived(1)
        await ask_for(bus, OTHER, 1)
        await cancel(bus, CAMPAIGN_ID)
        await all_is_done(bus)
    assert len(server.given_up) == 1
    assert await generated(bus) == [OTHER]
    assert server.busiest == 1
