"""A service as a process: it comes up, answers, drains and ends, and says why when it can't."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from duologue.bus.codec import encode
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_SCORED
from duologue.contracts.v1 import training_pb2, training_pb2_grpc
from tests.support.desk import dialogue, generated
from tests.support.requirements import ROOT

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """The tiny service in a folder of its own."""

    folder: Path
    grpc_port: int
    metrics_port: int
    process: asyncio.subprocess.Process | None = None

    async def start(self, *arguments: str, **settings: object) -> None:
        variables = {f"DUOLOGUE_{name.upper()}": str(value) for name, value in settings.items()}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.tiny_service",
            *arguments,
            cwd=ROOT,
            env={
                **os.environ,
                "DUOLOGUE_BUS__URL": f"sqlite:///{self.folder / 'bus.db'}",
                "DUOLOGUE_GRPC__PORT": str(self.grpc_port),
                "DUOLOGUE_METRICS__PORT": str(self.metrics_port),
                **variables,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}")

    async def serves(self) -> None:
        """Waits until its health is SERVING."""
        async with self.channel() as channel, asyncio.timeout(PATIENCE_SECONDS):
            health: Any = health_pb2_grpc.HealthStub(channel)
            async for answer in health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                if answer.status == SERVING:
                    return

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> tuple[int, str]:
        """Its exit status and what it said on standard error."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, errors.decode()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(tmp_path, free_port(), free_port())
    yield service
    if service.process is not None and service.process.returncode is None:
        service.process.kill()
        await service.process.wait()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


@dataclass
class Holder:
    """Holds up what the service has in work: `taken` when it has come so far, and `release` lets it go on."""

    port: int
    taken: asyncio.Event
    release: asyncio.Event


@pytest.fixture
async def holder() -> AsyncIterator[Holder]:
    taken, release = asyncio.Event(), asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield Holder(server.sockets[0].getsockname()[1], taken, release)
    release.set()
    server.close()


async def scored(bus: EmbeddedBus) -> list[str]:
    return [delivery.record.key async for delivery in bus.read(DIALOGUE_SCORED.name)]


async def test_a_service_answers_its_calls_health_reflection_and_metrics(service: Service) -> None:
    await service.start()
    await service.serves()
    async with service.channel() as channel, asyncio.timeout(PATIENCE_SECONDS):
        trainings = training_pb2_grpc.TrainingServiceStub(channel)
        assert await trainings.ListTrainings(training_pb2.ListTrainingsRequest()) == (
            training_pb2.ListTrainingsResponse()
        )
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = await anext(aiter(reflection.ServerReflectionInfo(iter([request]))))
        names = {listed.name for listed in answer.list_services_response.service}
        assert names >= {"duologue.v1.TrainingService", "grpc.health.v1.Health"}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{service.metrics_port}/metrics") as response,
    ):
        assert response.status == 200
        assert "duologue_records_in_flight" in await response.text()
    service.signal(signal.SIGTERM)
    status, errors = await service.ended()
    assert status == 0
    assert "Traceback" not in errors
    assert f"metrics_port={service.metrics_port}" in errors


async def test_a_service_that_is_told_to_stop_finishes_what_is_in_work_and_takes_no_more(
    service: Service, bus: EmbeddedBus, holder: Holder
) -> None:
    await bus.publish([encode(DIALOGUE_GENERATED, generated(dialogue("first")), "test")])
    await service.start(hold=holder.port)
    await service.serves()
    async with service.channel() as channel, asyncio.timeout(PATIENCE_SECONDS):
        await holder.taken.wait()
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = aiter(health.Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(watching)).status == SERVING
        service.signal(signal.SIGTERM)
        assert (await anext(watching)).status == NOT_SERVING
        await bus.publish([encode(DIALOGUE_GENERATED, generated(dialogue("second")), "test")])
        assert await scored(bus) == []
        holder.release.set()
    status, errors = await service.ended()
    assert status == 0, errors
    assert await scored(bus) == ["first"]
    assert await bus.lag(DIALOGUE_GENERATED.consumer_group("tiny"), DIALOGUE_GENERATED.name) == 1


async def test_open_streams_hold_up_no_stop_and_send_who_watches_elsewhere(service: Service) -> None:
    await service.start(drain_seconds=100 * PATIENCE_SECONDS)
    await service.serves()
    async with service.channel() as channel, asyncio.timeout(PATIENCE_SECONDS):
        trainings: Any = training_pb2_grpc.TrainingServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        training = trainings.WatchTraining(training_pb2.WatchTrainingRequest())
        serving = health.Watch(health_pb2.HealthCheckRequest())
        nobody = health.Watch(health_pb2.HealthCheckRequest(service="nobody"))
        streams = [training, serving, nobody]
        for stream in streams:
            await stream.read()
        service.signal(signal.SIGTERM)
        assert (await serving.read()).status == NOT_SERVING
        for stream in streams:
            with pytest.raises(grpc.aio.AioRpcError, match="the service stops") as caught:
                await stream.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    status, errors = await service.ended()
    assert status == 0, errors


async def test_what_does_not_end_within_the_drain_time_is_left_for_the_next_start(
    service: Service, bus: EmbeddedBus, holder: Holder
) -> None:
    await bus.publish([encode(DIALOGUE_GENERATED, generated(dialogue("first")), "test")])
    await service.start(hold=holder.port, drain_seconds=0.2)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await holder.taken.wait()
    service.signal(signal.SIGTERM)
    status, errors = await service.ended()
    assert status == 0, errors
    assert await bus.lag(DIALOGUE_GENERATED.consumer_group("tiny"), DIALOGUE_GENERATED.name) == 1
    await service.start()
    await service.serves()
    subscription = await bus.subscribe("test", [DIALOGUE_SCORED.name])
    async with asyncio.timeout(PATIENCE_SECONDS):
        (delivery,) = await subscription.fetch(1)
    assert delivery.record.key == "first"


@pytest.mark.parametrize("section", ["grpc", "metrics"])
async def test_a_port_in_use_is_named_with_its_setting(service: Service, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        await service.start(**{f"{section}__port": port})
        status, errors = await service.ended()
    assert status == 1
    assert f"127.0.0.1:{port} is in use (setting {section}.port): stop what listens there or change it" in errors
    assert len(errors.splitlines()) == 1


async def test_two_services_never_share_a_port(service: Service, tmp_path: Path) -> None:
    await service.start()
    await service.serves()
    second = Service(tmp_path, service.grpc_port, free_port())
    await second.start()
    status, errors = await second.ended()
    assert status == 1
    assert "setting grpc.port" in errors


@pytest.mark.parametrize("section", ["grpc", "metrics"])
async def test_an_address_that_is_not_ours_is_not_called_in_use(service: Service, section: str) -> None:
    await service.start(**{f"{section}__host": "192.0.2.1"})
    status, errors = await service.ended()
    assert status == 2
    assert "can't listen on 192.0.2.1:" in errors
    assert f"(settings {section}.host and {section}.port)" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("bus__url", "kafkaesque://host", "bus URL 'kafkaesque://host' is not known"),
        ("bus__url", "sqlite:////dev/null/bus.db", "(setting bus.url)"),
        ("database__url", "nonsense", "setting database.url is no database: use sqlite:///path or"),
        ("database__url", "sqlite:////dev/null/x/tiny.db", "setting database.url: the folder of the database"),
        ("database__url", "postgresql+nosuch://u:s3cret@db/x", "setting database.url is no database"),
        ("artifacts__url", "nope://bucket", 'setting artifacts.url: there is no store "nope"'),
    ],
)
async def test_what_can_not_be_opened_is_a_wrong_setting(
    service: Service, variable: str, value: str, said: str
) -> None:
    await service.start(**{variable: value})
    status, errors = await service.ended()
    assert status == 2
    assert said in errors
    assert "s3cret" not in errors
    assert len(errors.splitlines()) == 1


async def test_work_that_fails_takes_the_service_down_with_its_reason(service: Service) -> None:
    await service.start(background="fails")
    status, errors = await service.ended()
    assert status == 1
    assert "RuntimeError: the work in the background failed" in errors


async def test_every_failure_of_work_is_in_the_log(service: Service) -> None:
    await service.start(background="fails twice")
    status, errors = await service.ended()
    assert status == 1
    assert "RuntimeError: the work in the background failed" in errors
    assert "ValueError: and so did the other" in errors


async def test_work_that_ends_before_the_service_is_a_failure(service: Service) -> None:
    await service.start(background="ends")
    status, errors = await service.ended()
    assert status == 1
    assert "ended, and was to run as long as the service" in errors


async def test_a_record_that_can_not_be_read_is_a_dead_letter_and_no_crash(service: Service, bus: EmbeddedBus) -> None:
    good = encode(DIALOGUE_GENERATED, generated(dialogue("good")), "test")
    bad = type(good)(good.topic, "bad", b"\xff\xff\xff")
    await bus.publish([bad, good])
    await service.start()
    dead = await bus.subscribe("test", [DIALOGUE_GENERATED.dead_letters("tiny"), DIALOGUE_SCORED.name])
    found: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < 2:
            for delivery in await dead.fetch(2):
                found[delivery.record.key] = delivery.record.topic
    assert found == {"bad": DIALOGUE_GENERATED.dead_letters("tiny"), "good": DIALOGUE_SCORED.name}
    service.signal(signal.SIGTERM)
    assert (await service.ended())[0] == 0
