"""The control plane as processes on a real PostgreSQL that dies, stands still and comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import DIALOGUE_REQUESTED
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc
from tests.support.control_plane import create_request
from tests.support.eventually import eventually
from tests.support.postgres import PostgresServer, connect
from tests.support.service_process import ServiceProcess, service_process

LEADS = 'duologue_leader{role="campaign"}'
DIALOGUES = 3

Start = Callable[[], Any]


@pytest.fixture
def start(own_postgres: PostgresServer, tmp_path: Path) -> Start:
    """One more replica."""
    limits = {"database__statement_seconds": 1, "database__connection_seconds": 2, "database__pool_size": 2}
    return lambda: service_process("duologue_campaign", tmp_path, database__url=own_postgres.url, **limits)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


async def create(service: ServiceProcess, request_id: str) -> str:
    """The id of a new campaign over three dialogues."""
    async with service.channel() as channel:
        stub = campaign_pb2_grpc.CampaignServiceStub(channel)
        request = create_request(request_id, dialogues=DIALOGUES, concurrency=DIALOGUES)
        return (await stub.CreateCampaign(request, timeout=30)).campaign.id


async def answer(service: ServiceProcess) -> grpc.StatusCode:
    async with service.channel() as channel:
        try:
            await campaign_pb2_grpc.CampaignServiceStub(channel).ListCampaigns(pb.ListCampaignsRequest(), timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def answers(service: ServiceProcess, status: grpc.StatusCode) -> None:
    async def does() -> bool:
        return await answer(service) is status

    await eventually(does, f"the service answers {status.name}", seconds=60)


async def asked(bus: EmbeddedBus, count: int) -> None:
    """Until so many dialogues were asked for on the topic."""

    async def found() -> bool:
        return len([True async for _ in bus.read(DIALOGUE_REQUESTED.name)]) >= count

    await eventually(found, f"{count} requests on the topic", seconds=60)


async def relayed(server: PostgresServer) -> None:
    """Until the outbox is empty."""

    async def is_empty() -> bool:
        with connect(server.url) as connection:
            return connection.execute("SELECT 1 FROM outbox").fetchone() is None

    await eventually(is_empty, "the outbox is empty")


async def leader(*services: ServiceProcess) -> ServiceProcess:
    async def leads() -> ServiceProcess | None:
        found = [service for service in services if await service.metric(LEADS) == 1]
        assert len(found) < 2
        return found[0] if found else None

    found = await eventually(leads, "one of them leads", seconds=60)
    assert found is not None
    return found


@pytest.mark.parametrize("away", ["killed", "paused"])
async def test_a_database_that_goes_away_is_waited_for_and_the_service_goes_on(
    own_postgres: PostgresServer, start: Start, bus: EmbeddedBus, away: str
) -> None:
    goes, comes = _ways(own_postgres)[away]
    async with start() as service:
        await service.serves()
        await create(service, "before")
        await asked(bus, DIALOGUES)
        goes()
        try:
            await answers(service, grpc.StatusCode.UNAVAILABLE)
        finally:
            comes()
        await answers(service, grpc.StatusCode.OK)
        await create(service, "after")
        await asked(bus, 2 * DIALOGUES)
        assert service.process.returncode is None
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(service.process.wait(), 60) == 0


async def test_replicas_that_start_at_once_all_serve_and_one_leads_for_all(
    own_postgres: PostgresServer, start: Start, bus: EmbeddedBus
) -> None:
    async with start() as first, start() as second:
        await asyncio.gather(first.serves(), second.serves())
        one = await leader(first, second)
        other = second if one is first else first
        assert await create(one, "the same") == await create(other, "the same")
        await create(other, "by the one that does not lead")
        await asked(bus, 2 * DIALOGUES)
        await relayed(own_postgres)  # a relay that dies between publishing and noting it is repeated by the next
        one.process.kill()
        assert await leader(other) is other
        await create(other, "after")
        await asked(bus, 3 * DIALOGUES)
    requests = [delivery.record.key async for delivery in bus.read(DIALOGUE_REQUESTED.name)]
    assert len(requests) == len(set(requests))


def _ways(server: PostgresServer) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    def start_again() -> None:
        server.run()
        server.wait()

    return {"killed": (server.kill, start_again), "paused": (server.pause, server.resume)}
