"""Who may call a service, and whom it calls: real servers with real certificates and tokens, renewed while they run."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from duologue.contracts.v1 import training_pb2, training_pb2_grpc
from duologue.core.problems import WrongSetting
from duologue.runtime import open_blocking_channel, open_channel, server
from duologue.runtime.server import Server
from duologue.runtime.settings import GrpcSettings
from tests.support.certificates import HERE, Authority, Certificate
from tests.support.requirements import ROOT
from tests.support.tiny_service import Trainings

OURS, OTHER = "s3cret-ours", "s3cret-other"
PATIENCE_SECONDS = 30
UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED


class World:
    """Two authorities, and what they issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ours, self.other = Authority(folder, "ours"), Authority(folder, "other")
        self.service = self.ours.issue("service", *HERE)
        self.client = self.ours.issue("client")

    def encrypted(self, shown: Certificate | None = None, **more: Any) -> GrpcSettings:
        """TLS that trusts our authority."""
        certificate = {"certificate_file": str(shown.certificate), "key_file": str(shown.key)} if shown else {}
        return GrpcSettings(**{"tls": True, "ca_file": str(self.ours.file), **certificate, **more})

    def mutual(self, **more: Any) -> GrpcSettings:
        return self.encrypted(self.service, require_client_certificate=True, **more)

    def tokens(self, name: str, *tokens: str) -> str:
        file = self.folder / name
        file.write_text("# who\n" + "\n".join(tokens) + "\n")
        return str(file)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def running(settings: GrpcSettings) -> AsyncIterator[tuple[Server, str]]:
    """A server with these settings, and its address."""
    running = Server(settings, asyncio.Event())
    running.add(
        training_pb2_grpc.add_TrainingServiceServicer_to_server,
        Trainings(),
        training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
    )
    port = await running.start()
    await running.say_serving()
    yield running, f"127.0.0.1:{port}"
    await running.stop(0)


@asynccontextmanager
async def serving(settings: GrpcSettings) -> AsyncIterator[str]:
    """The address of one."""
    async with running(settings) as (_, address):
        yield address


async def ask(channel: grpc.aio.Channel, **named: Any) -> training_pb2.ListTrainingsResponse:
    trainings: Any = training_pb2_grpc.TrainingServiceStub(channel)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer: training_pb2.ListTrainingsResponse = await trainings.ListTrainings(
            training_pb2.ListTrainingsRequest(), **named
        )
    return answer


async def call(address: str, settings: GrpcSettings, **named: Any) -> training_pb2.ListTrainingsResponse:
    async with open_channel(address, settings) as channel:
        return await ask(channel, **named)


async def refusal(address: str, settings: GrpcSettings, **named: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(address, settings, **named)
    return caught.value.code(), caught.value.details() or ""


RIGHT: dict[str, Callable[[World], tuple[GrpcSettings, GrpcSettings]]] = {
    "nothing where nothing is asked for": lambda _: (GrpcSettings(), GrpcSettings()),
    "trust in the service's authority": lambda world: (world.encrypted(world.service), world.encrypted()),
    "a certificate": lambda world: (world.mutual(), world.encrypted(world.client)),
    "a token": lambda world: (
        GrpcSettings(token_file=world.tokens("accepted", OTHER, OURS)),
        GrpcSettings(token_file=world.tokens("ours", OURS, "and-more")),
    ),
    "a certificate and a token": lambda world: (
        world.mutual(token_file=world.tokens("accepted", OURS)),
        world.encrypted(world.client, token_file=world.tokens("ours", OURS)),
    ),
    "the name that the certificate bears": lambda world: (
        world.encrypted(world.ours.issue("elsewhere", "campaign.example")),
        world.encrypted(server_name="campaign.example"),
    ),
}


@pytest.mark.parametrize("what", RIGHT)
async def test_who_shows_the_right_thing_is_answered(world: World, what: str) -> None:
    service, caller = RIGHT[what](world)
    async with serving(service) as address:
        await call(address, caller)


UNTRUSTED: dict[str, Callable[[World], tuple[GrpcSettings, GrpcSettings, str]]] = {
    "no certificate": lambda world: (world.mutual(), world.encrypted(), "Socket closed"),
    "a certificate of another authority": lambda world: (
        world.mutual(),
        world.encrypted(world.other.issue("client")),
        "Socket closed",
    ),
    "a certificate that has expired": lambda world: (
        world.mutual(),
        world.encrypted(world.ours.issue("late", is_expired=True)),
        "Socket closed",
    ),
    "no TLS": lambda world: (world.encrypted(world.service), GrpcSettings(), "Socket closed"),
    "TLS where there is none": lambda world: (GrpcSettings(), world.encrypted(), "WRONG_VERSION_NUMBER"),
    "no trust in the service's authority": lambda world: (
        world.encrypted(world.other.issue("service", *HERE)),
        world.encrypted(),
        "CERTIFICATE_VERIFY_FAILED",
    ),
    "trust in what has expired": lambda world: (
        world.encrypted(world.ours.issue("late", *HERE, is_expired=True)),
        world.encrypted(),
        "CERTIFICATE_VERIFY_FAILED: certificate has expired",
    ),
    "trust in another host": lambda world: (
        world.encrypted(world.ours.issue("elsewhere", "campaign.example")),
        world.encrypted(),
        "Hostname Verification Check failed",
    ),
}


@pytest.mark.parametrize("what", UNTRUSTED)
async def test_who_shows_anything_else_is_not_connected(world: World, what: str) -> None:
    service, caller, said = UNTRUSTED[what](world)
    async with serving(service) as address:
        code, details = await refusal(address, caller)
    assert code is UNAVAILABLE
    assert said in details


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        (None, "the call has no token (metadata authorization: Bearer TOKEN)"),
        ("Basic s3cret-ours", "the call has no token"),
        (f"Bearer {OTHER}", "the token is not one that this service accepts"),
        (f"Bearer {OURS}x", "the token is not one that this service accepts"),
        ("Bearer ", "the token is not one that this service accepts"),
        ("Bearer #", "the token is not one that this service accepts"),
    ],
)
async def test_a_call_without_an_accepted_token_is_refused_and_the_token_not_repeated(
    world: World, authorization: str | None, said: str
) -> None:
    metadata = () if authorization is None else (("authorization", authorization),)
    with capture_logs() as logs:
        async with serving(GrpcSettings(token_file=world.tokens("accepted", OURS))) as address:
            code, details = await refusal(address, GrpcSettings(), metadata=metadata)
    assert (code, details.startswith(said)) == (UNAUTHENTICATED, True)
    assert [line["event"] for line in logs] == ["call refused"]
    assert "s3cret" not in f"{details}{logs}"


async def test_without_a_token_there_is_health_and_nothing_else(world: World) -> None:
    async with (
        serving(GrpcSettings(token_file=world.tokens("accepted", OURS))) as address,
        grpc.aio.insecure_channel(address) as channel,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await check_health(channel)
        trainings: Any = training_pb2_grpc.TrainingServiceStub(channel)
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        listing = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        for stream in (
            trainings.WatchTraining(training_pb2.WatchTrainingRequest()),
            reflection.ServerReflectionInfo(listing),
            channel.unary_stream("/duologue.v1.NoService/NoMethod")(b""),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() is UNAUTHENTICATED


async def check_health(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_probe_that_has_no_certificate_asks_the_port_that_answers_health_alone(
    world: World, free_port: int
) -> None:
    async with (
        serving(world.mutual(health_port=free_port)),
        grpc.aio.insecure_channel(f"127.0.0.1:{free_port}") as channel,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await check_health(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_renewed_certificates_are_shown_and_asked_for_without_a_restart(world: World) -> None:
    async with serving(world.mutual()) as address, open_channel(address, world.encrypted(world.client)) as before:
        await ask(before)
        theirs = world.encrypted(world.other.issue("client"), ca_file=str(world.other.file))
        assert (await refusal(address, theirs))[0] is UNAVAILABLE
        world.service.replace_with(world.other.issue("service", *HERE))
        ours = world.folder / "kept.pem"
        ours.write_bytes(world.ours.file.read_bytes())
        world.ours.file.write_bytes(world.other.file.read_bytes())
        # New connections meet the new certificate, and old ones are no credential any more.
        await call(address, theirs)
        assert (await refusal(address, world.encrypted(world.client, ca_file=str(ours))))[0] is UNAVAILABLE
        assert (await refusal(address, world.encrypted(world.client)))[1].endswith("Socket closed")


async def test_a_certificate_that_can_not_be_used_leaves_the_old_one_and_is_logged_once(world: World) -> None:
    with capture_logs() as logs:
        async with serving(world.encrypted(world.service)) as address:
            good = world.service.key.read_bytes()
            for broken in (b"half of a", world.client.key.read_bytes(), good):
                world.service.key.write_bytes(broken)
                for _ in range(2):
                    await call(address, world.encrypted())
            world.service.certificate.unlink()
            await call(address, world.encrypted())
    errors = [line["reason"] for line in logs if line["log_level"] == "error"]
    assert [error.partition("used: ")[2][:9] for error in errors] == ["[SSL] PEM", "[X509: KE", ""]
    assert str(world.service.certificate) in errors[2]


async def test_tokens_are_added_and_withdrawn_without_a_restart(world: World) -> None:
    accepted = world.tokens("accepted", OURS)
    caller = GrpcSettings(token_file=world.tokens("ours", OURS))
    async with serving(GrpcSettings(token_file=accepted)) as address, open_channel(address, caller) as channel:
        await ask(channel)
        world.tokens("accepted", OURS, OTHER)
        await ask(channel)
        world.tokens("ours", OTHER, OURS)
        await ask(channel)
        world.tokens("accepted", OTHER)
        await ask(channel)
        world.tokens("accepted")  # a renewal that went wrong locks nobody out
        await ask(channel)
        world.tokens("ours", OURS)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel)
        assert caught.value.code() is UNAUTHENTICATED


async def test_a_caller_connects_anew_with_its_renewed_certificate_and_ends_what_is_under_way(world: World) -> None:
    client = world.ours.issue("renewed")
    async with (
        running(world.mutual()) as (service, address),
        open_channel(address, world.encrypted(client)) as channel,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        client.replace_with(world.ours.issue("late", is_expired=True))
        with pytest.raises(grpc.aio.AioRpcError):
            await ask(channel)
        client.replace_with(world.client)
        await ask(channel)
        gc.collect()  # nobody but the stream needs the old connection any more
        await service.say_stopping()
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_outside_of_an_event_loop_it_is_the_same(world: World) -> None:
    client = world.ours.issue("renewed", is_expired=True)
    service = world.mutual(token_file=world.tokens("accepted", OURS))
    caller = world.encrypted(client, token_file=world.tokens("ours", OURS))
    async with serving(service) as address:
        with open_blocking_channel(address, caller) as channel:
            trainings = training_pb2_grpc.TrainingServiceStub(channel)
            with pytest.raises(grpc.RpcError):
                await asyncio.to_thread(trainings.ListTrainings, training_pb2.ListTrainingsRequest())
            client.replace_with(world.client)
            await asyncio.to_thread(trainings.ListTrainings, training_pb2.ListTrainingsRequest())
            watching = trainings.WatchTraining(training_pb2.WatchTrainingRequest())
            assert await asyncio.to_thread(next, watching) == training_pb2.WatchTrainingResponse()


async def test_a_stream_does_not_outlive_its_connection_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ages = [("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 100)]
    monkeypatch.setattr(server, "_AGES", ages)
    async with serving(world.mutual()) as address, open_channel(address, world.encrypted(world.client)) as channel:
        trainings: Any = training_pb2_grpc.TrainingServiceStub(channel)
        watching = trainings.WatchTraining(training_pb2.WatchTrainingRequest())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await watching.read()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watching.read()
        assert caught.value.code() is UNAVAILABLE
        await ask(channel, wait_for_ready=True)


@pytest.mark.parametrize(
    ("host", "has", "said"),
    [
        ("127.0.0.1", [], []),
        ("0.0.0.0", [], ["grpc.tls", "grpc.token_file"]),  # noqa: S104
        ("0.0.0.0", ["token"], ["grpc.tls"]),  # noqa: S104
        ("0.0.0.0", ["tls"], ["grpc.token_file"]),  # noqa: S104
        ("0.0.0.0", ["tls", "token"], []),  # noqa: S104
        ("0.0.0.0", ["tls", "certificates"], []),  # noqa: S104
    ],
)
async def test_an_open_door_is_warned_of(world: World, host: str, has: list[str], said: list[str]) -> None:
    settings: dict[str, Any] = {"host": host}
    if "token" in has:
        settings["token_file"] = world.tokens("accepted", OURS)
    if "tls" in has:
        settings |= world.encrypted(world.service).model_dump(exclude_defaults=True)
    if "certificates" in has:
        settings["require_client_certificate"] = True
    with capture_logs() as logs:
        async with serving(GrpcSettings(**settings)):
            pass
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert [setting for setting, line in zip(said, warnings, strict=True) if setting in line] == said


@pytest.mark.parametrize(
    ("address", "is_warned_of"), [("127.0.0.1:1", False), ("localhost:1", False), ("[::1]:1", False), ("host:1", True)]
)
async def test_a_token_that_others_can_overhear_is_warned_of(world: World, address: str, is_warned_of: bool) -> None:
    with capture_logs() as logs:
        async with open_channel(address, GrpcSettings(token_file=world.tokens("ours", OURS))):
            pass
    assert [line["log_level"] for line in logs] == ["warning"] * is_warned_of
    assert "s3cret" not in str(logs)


UNUSABLE: dict[str, Callable[[World], tuple[GrpcSettings, str]]] = {
    "TLS without a certificate": lambda world: (world.encrypted(), "set grpc.certificate_file and grpc.key_file"),
    "a certificate that is not there": lambda world: (
        world.encrypted(world.service, certificate_file="/nowhere/tls.crt"),
        "/nowhere/tls.crt can't be read: No such file or directory (setting grpc.certificate_file)",
    ),
    "another's key": lambda world: (
        world.encrypted(world.service, key_file=str(world.client.key)),
        "key values mismatch (_ssl.c",
    ),
    "no key": lambda world: (world.encrypted(world.service, key_file=""), "(settings grpc.certificate_file and"),
    "an authority that is none": lambda world: (
        world.encrypted(world.service, ca_file=world.tokens("no.pem")),
        "(setting grpc.ca_file)",
    ),
    "a folder": lambda world: (GrpcSettings(token_file=str(world.folder)), "Is a directory (setting grpc.token_file)"),
    "no token": lambda world: (GrpcSettings(token_file=world.tokens("none")), "holds no token (setting"),
    "words": lambda world: (
        GrpcSettings(token_file=world.tokens("words", "s3cret one")),
        "holds something else than a token on each line (setting grpc.token_file)",
    ),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_files_that_can_not_be_used_are_wrong_settings(world: World, what: str) -> None:
    settings, said = UNUSABLE[what](world)
    with pytest.raises(WrongSetting) as caught:
        Server(settings, asyncio.Event())
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_key_under_a_passphrase_is_refused_and_not_asked_for(world: World) -> None:
    world.service.lock()
    with pytest.raises(WrongSetting, match=r"grpc\.key_file"):
        Server(world.encrypted(world.service), asyncio.Event())


async def test_a_service_that_can_not_use_its_files_ends_with_one_line(world: World) -> None:
    file = world.tokens("words", "s3cret one")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.tiny_service",
        cwd=ROOT,
        env={
            **os.environ,
            "DUOLOGUE_BUS__URL": f"sqlite:///{world.folder / 'bus.db'}",
            "DUOLOGUE_GRPC__TOKEN_FILE": file,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (
        2,
        f"{file} holds something else than a token on each line (setting grpc.token_file)\n",
    )
