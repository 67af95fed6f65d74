"""A campaign is cancelled: role-play and scoring, each a process as in a cluster, ask no model for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from duologue.bus.codec import encode
from duologue.contracts.topics import (
    CAMPAIGN_CANCELLED,
    DIALOGUE_GENERATED,
    DIALOGUE_REQUESTED,
    DIALOGUE_SCORED,
    Topic,
)
from duologue.contracts.v1 import campaign_pb2_grpc, events_pb2
from duologue.store import Term
from tests.support.command import duologue_beside
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.desk import DESK, dialogue, generated
from tests.support.desk_models import deciding, obedient
from tests.support.eventually import eventually
from tests.support.grpc_server import serving
from tests.support.model_server import Held, ModelRequest, ScriptedModelServer
from tests.support.service_process import ServiceProcess, service_process

PATIENCE_SECONDS = 60.0
IN_WORK, ASKED, OTHERS = 8, 64, 4


@dataclass
class Cluster:
    """A control plane and its bus, model servers that hold what they are asked, and processes of services."""

    folder: Path
    plane: ControlPlane
    server: ScriptedModelServer
    stack: AsyncExitStack
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.server.faults = [Held(self.release) for _ in range(10_000)]

    async def start(self, service: str, *models: str) -> ServiceProcess:
        """A copy of the service; `models`: its settings of endpoints."""
        endpoints = {f"{name}__{key}": value for name in models for key, value in self._endpoint.items()}
        process = service_process(f"duologue_{service}", self.folder, concurrency=IN_WORK, **endpoints)
        return await self.stack.enter_async_context(process)

    @property
    def _endpoint(self) -> dict[str, str]:
        return {"url": self.server.url, "server": "openai", "model": "any"}

    async def create(self, name: str, dialogues: int) -> str:
        """A campaign whose models have its name."""
        models = dict.fromkeys(("client", "agent", "manager"), name)
        return await self.plane.create(name, campaign=name, dialogues=dialogues, concurrency=dialogues, models=models)

    def asked_for(self, name: str) -> list[ModelRequest]:
        return [request for request in self.server.requests if request.body["model"] == name]

    async def each_has_partitions(self, topic: Topic, group: str, members: int) -> None:
        query = "SELECT count(DISTINCT owner) FROM cursor WHERE grp = ? AND topic = ? AND owner != ''"
        place = (topic.consumer_group(group), topic.name)

        async def claimed() -> bool:
            found = await self.plane.bus._log.read(lambda connection: connection.execute(query, place).fetchone())
            return int(found[0]) == members

        await eventually(claimed, f"{members} members have partitions", PATIENCE_SECONDS)

    async def requests_are_there(self, count: int) -> None:
        async def claimed() -> bool:
            return len([one async for one in self.plane.bus.read(DIALOGUE_REQUESTED.name)]) == count

        await eventually(claimed, "the requests wait in the topic", PATIENCE_SECONDS)

    async def nothing_is_left(self, topic: Topic, group: str) -> None:
        async def claimed() -> bool:
            return not await self.plane.bus.lag(topic.consumer_group(group), topic.name)

        await eventually(claimed, "the group has nothing left", PATIENCE_SECONDS)


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(control_plane(tmp_path))
        plane.workflows.put(DESK)
        server = await stack.enter_async_context(ScriptedModelServer(obedient, deciding()))
        register = campaign_pb2_grpc.add_CampaignServiceServicer_to_server
        address = await stack.enter_async_context(serving(register, plane.rpc))
        monkeypatch.setenv("DUOLOGUE_ADDRESS", address)
        relay = asyncio.create_task(plane.outbox.relay(Term()))
        yield Cluster(tmp_path, plane, server, stack)
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)


async def soon(claim: Callable[[], bool], what: str) -> None:
    async def claimed() -> bool:
        return claim()

    await eventually(claimed, what, PATIENCE_SECONDS)


def outcomes(topic: Topic, group: str, outcome: str) -> str:
    return f'duologue_records_total{{group="{group}",outcome="{outcome}",topic="{topic.name}"}}'


async def test_every_replica_of_role_play_drops_what_it_plays_and_begins_no_more(cluster: Cluster) -> None:
    models = ("models__client", "models__agent", "models__manager")
    replicas = [await cluster.start("roleplay", *models) for _ in range(2)]
    await cluster.each_has_partitions(DIALOGUE_REQUESTED, "roleplay", 2)
    others = await cluster.create("other", OTHERS)
    await soon(lambda: len(cluster.asked_for("other")) == OTHERS, "the other campaign is in work")
    doomed = await cluster.create("doomed", ASKED)
    await soon(lambda: len(cluster.server.requests) == 2 * IN_WORK, "both replicas are full")

    done = await duologue_beside("campaign", "cancel", "doomed")
    assert (done.status, done.out) == (0, f"doomed {doomed[:8]} is cancelled\n")
    await soon(lambda: len(cluster.server.given_up) == 2 * IN_WORK - OTHERS, "its requests are dropped")
    assert {request.body["model"] for request in cluster.server.given_up} == {"doomed"}

    cluster.release.set()
    await cluster.nothing_is_left(DIALOGUE_REQUESTED, "roleplay")
    assert len(cluster.asked_for("doomed")) == 2 * IN_WORK - OTHERS
    played = [delivery.record async for delivery in cluster.plane.bus.read(DIALOGUE_GENERATED.name)]
    campaigns = [events_pb2.DialogueGenerated.FromString(record.value).dialogue.campaign_id for record in played]
    assert campaigns == [others] * OTHERS
    dropped = [await replica.metric(outcomes(DIALOGUE_REQUESTED, "roleplay", "cancelled")) for replica in replicas]
    assert min(dropped) > 0
    assert sum(dropped) == ASKED
    for aside in (DIALOGUE_REQUESTED.retry("roleplay"), DIALOGUE_REQUESTED.dead_letters("roleplay")):
        assert [delivery async for delivery in cluster.plane.bus.read(aside)] == []


async def test_a_replica_that_starts_after_a_campaign_was_cancelled_begins_nothing_of_it(cluster: Cluster) -> None:
    cluster.release.set()
    await cluster.create("doomed", 20)
    await duologue_beside("campaign", "cancel", "doomed")
    others = await cluster.create("other", OTHERS)
    await cluster.requests_are_there(20 + OTHERS)
    await cluster.start("roleplay", "models__client", "models__agent", "models__manager")
    await cluster.nothing_is_left(DIALOGUE_REQUESTED, "roleplay")
    assert cluster.asked_for("doomed") == []
    played = [delivery.record async for delivery in cluster.plane.bus.read(DIALOGUE_GENERATED.name)]
    campaigns = [events_pb2.DialogueGenerated.FromString(record.value).dialogue.campaign_id for record in played]
    assert campaigns == [others] * OTHERS


async def test_scoring_asks_its_judge_for_nothing_of_a_cancelled_campaign(cluster: Cluster) -> None:
    bus = cluster.plane.bus
    spoken = [dialogue(f"doomed-{number}", campaign_id="doomed") for number in range(3)]
    await bus.publish([encode(DIALOGUE_GENERATED, generated(one), "test") for one in spoken])
    scoring = await cluster.start("scoring", "judge")
    await soon(lambda: len(cluster.server.requests) >= 3, "the judge is asked")
    cancelled = events_pb2.CampaignCancelled(campaign_id="doomed", cancelled_at="2026-01-01T00:00:00Z")
    await bus.publish([encode(CAMPAIGN_CANCELLED, cancelled, "test")])
    await cluster.nothing_is_left(DIALOGUE_GENERATED, "scoring")
    await soon(lambda: len(cluster.server.given_up) == len(cluster.server.requests), "its requests are dropped")
    asked = len(cluster.server.requests)

    late = dialogue("doomed-late", campaign_id="doomed")
    await bus.publish([encode(DIALOGUE_GENERATED, generated(late), "test")])
    await cluster.nothing_is_left(DIALOGUE_GENERATED, "scoring")
    assert len(cluster.server.requests) == asked

    cluster.release.set()
    other = dialogue("other-1", campaign_id="other")
    await bus.publish([encode(DIALOGUE_GENERATED, generated(other), "test")])
    await cluster.nothing_is_left(DIALOGUE_GENERATED, "scoring")
    assert [delivery.record.key async for delivery in bus.read(DIALOGUE_SCORED.name)] == ["other-1"]
    assert await scoring.metric(outcomes(DIALOGUE_GENERATED, "scoring", "cancelled")) == 4
