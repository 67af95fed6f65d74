"""Calls are counted and timed by what was asked for, whoever asks for whatever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from duologue.contracts.v1 import training_pb2, training_pb2_grpc
from duologue.runtime.errors import NotFound
from duologue.runtime.server import Server
from duologue.runtime.settings import GrpcSettings
from tests.support.eventually import eventually

SERVICE = "duologue.v1.TrainingService"


class Trainings(training_pb2_grpc.TrainingServiceServicer):
    """Lists none; there is none to watch."""

    async def ListTrainings(self, request: Any, context: Any) -> training_pb2.ListTrainingsResponse:  # noqa: N802
        return training_pb2.ListTrainingsResponse()

    async def WatchTraining(  # noqa: N802
        self, request: Any, context: Any
    ) -> AsyncIterator[training_pb2.WatchTrainingResponse]:
        raise NotFound("no such training")
        yield


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """To a server that wants a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("let-me-in\n")
    server = Server(GrpcSettings(token_file=str(tokens)), asyncio.Event())
    register = training_pb2_grpc.add_TrainingServiceServicer_to_server
    server.add(register, Trainings(), training_pb2.DESCRIPTOR.services_by_name["TrainingService"])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await server.start()}") as channel:
        yield channel
    await server.stop(0)


TOKEN = (("authorization", "Bearer let-me-in"),)


def counted(method: str, code: str) -> float:
    return REGISTRY.get_sample_value("duologue_calls_total", {"method": method, "code": code}) or 0.0


async def is_counted(method: str, code: str, times: float) -> None:
    """By and by: a caller may have its answer before the call is over."""

    async def claim() -> bool:
        return counted(method, code) == times

    await eventually(claim, f"{method} is counted {times:g} times as {code}")


async def test_calls_are_counted_by_method_and_status_and_timed_when_they_have_one_answer(
    channel: grpc.aio.Channel,
) -> None:
    listing, watching = f"{SERVICE}/ListTrainings", f"{SERVICE}/WatchTraining"
    before = [counted(listing, "OK"), counted(watching, "NOT_FOUND")]
    stub: Any = training_pb2_grpc.TrainingServiceStub(channel)
    await stub.ListTrainings(training_pb2.ListTrainingsRequest(), metadata=TOKEN)
    with pytest.raises(grpc.aio.AioRpcError, match="no such training"):
        await anext(aiter(stub.WatchTraining(training_pb2.WatchTrainingRequest(), metadata=TOKEN)))
    await is_counted(listing, "OK", before[0] + 1)
    await is_counted(watching, "NOT_FOUND", before[1] + 1)

    def timed(method: str) -> float | None:
        return REGISTRY.get_sample_value("duologue_call_seconds_count", {"method": method})

    assert timed(listing)
    assert timed(watching) is None


async def test_who_may_not_call_is_counted_and_what_nobody_offers_makes_no_label(channel: grpc.aio.Channel) -> None:
    before = counted("unknown", "UNAUTHENTICATED")
    for name in ("Anything", "AnythingElse"):
        call = channel.unary_unary(f"/{SERVICE}/{name}")
        with pytest.raises(grpc.aio.AioRpcError, match="no token"):
            await call(b"")
    await is_counted("unknown", "UNAUTHENTICATED", before + 2)
    assert counted(f"{SERVICE}/Anything", "UNAUTHENTICATED") == 0


async def test_health_is_counted_too(channel: grpc.aio.Channel) -> None:
    before = counted("grpc.health.v1.Health/Check", "OK")
    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    await is_counted("grpc.health.v1.Health/Check", "OK", before + 1)
