"""What becomes of an error: for a caller a status, for a record another try or the dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog

from duologue.bus import NotThereYet, Poison, Transient
from duologue.contracts.convert import UnreadableMessageError
from duologue.contracts.v1 import training_pb2 as pb
from duologue.contracts.v1 import training_pb2_grpc
from duologue.core.problems import InvalidInput, Problem
from duologue.models import ModelRefused, ModelUnavailable
from duologue.runtime.errors import NotFound, NotPossible
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactDamaged
from tests.support.grpc_server import serving

INVALID = InvalidInput([Problem("desk.yaml", 3, "is wrong", "Mend it.")])


class Raising(training_pb2_grpc.TrainingServiceServicer):
    """Raises what it is given, in a plain call and in a stream after one answer."""

    def __init__(self) -> None:
        self.error: Exception = RuntimeError()

    async def ListTrainings(self, request: pb.ListTrainingsRequest, context: Any) -> pb.ListTrainingsResponse:  # noqa: N802
        raise self.error

    async def WatchTraining(  # noqa: N802
        self, request: pb.WatchTrainingRequest, context: Any
    ) -> AsyncIterator[pb.WatchTrainingResponse]:
        yield pb.WatchTrainingResponse()
        raise self.error


@pytest.fixture
def servicer() -> Raising:
    return Raising()


@pytest.fixture
async def service(servicer: Raising) -> AsyncIterator[training_pb2_grpc.TrainingServiceStub]:
    register = training_pb2_grpc.add_TrainingServiceServicer_to_server
    async with serving(register, servicer) as address, grpc.aio.insecure_channel(address) as channel:
        yield training_pb2_grpc.TrainingServiceStub(channel)


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (INVALID, grpc.StatusCode.INVALID_ARGUMENT, "desk.yaml:3: is wrong\n    Mend it."),
        (NotFound("there is no such thing"), grpc.StatusCode.NOT_FOUND, "there is no such thing"),
        (NotPossible("it is over"), grpc.StatusCode.FAILED_PRECONDITION, "it is over"),
        (Poison("no limits"), grpc.StatusCode.INVALID_ARGUMENT, "no limits"),
        (UnreadableMessageError("unknown role 7"), grpc.StatusCode.INVALID_ARGUMENT, "unknown role 7"),
        (ArtifactDamaged("x is damaged"), grpc.StatusCode.INVALID_ARGUMENT, "x is damaged"),
        (ModelRefused("too long", 422), grpc.StatusCode.INVALID_ARGUMENT, "too long"),
        (ModelRefused("no key", 401), grpc.StatusCode.UNAVAILABLE, "no key"),
        (ModelUnavailable("busy"), grpc.StatusCode.UNAVAILABLE, "busy"),
        (Transient("not yet"), grpc.StatusCode.UNAVAILABLE, "not yet"),
        (RuntimeError("a secret of ours"), grpc.StatusCode.INTERNAL, "RuntimeError: see the service's log"),
        (ValueError("a secret of ours"), grpc.StatusCode.INTERNAL, "ValueError: see the service's log"),
        (FileNotFoundError("/etc/ours"), grpc.StatusCode.INTERNAL, "FileNotFoundError: see the service's log"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_caller_hears_what_went_wrong_and_whose_turn_it_is(
    servicer: Raising,
    service: training_pb2_grpc.TrainingServiceStub,
    error: Exception,
    code: grpc.StatusCode,
    details: str,
) -> None:
    servicer.error = error
    stream = service.WatchTraining(pb.WatchTrainingRequest())
    assert await stream.read() == pb.WatchTrainingResponse()
    with structlog.testing.capture_logs() as logs:
        for call in (service.ListTrainings(pb.ListTrainingsRequest()), stream.read()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert (caught.value.code(), caught.value.details()) == (code, details)
    assert bool(logs) is (code is grpc.StatusCode.INTERNAL)  # ours is in the log, a caller's mistake is not


@pytest.mark.parametrize("letter", ["x", "ü", "\n"])
async def test_a_very_long_message_is_shortened_and_still_arrives(
    servicer: Raising, service: training_pb2_grpc.TrainingServiceStub, letter: str
) -> None:
    servicer.error = NotFound("there is no " + letter * 50_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.ListTrainings(pb.ListTrainingsRequest())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    details = caught.value.details() or ""
    assert details.startswith(f"there is no {letter}{letter}")
    assert details.endswith(f"{letter}\n... and more")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelUnavailable("busy"), Transient),
        (ModelRefused("no key", 401), Transient),
        (ModelRefused("forbidden", 403), Transient),
        (ModelRefused("no such model", 404), Transient),
        (ModelRefused("bad request", 400), Poison),
        (ModelRefused("too large", 413), Poison),
        (ModelRefused("too long", 422), Poison),
        (UnreadableMessageError("unknown role 7"), Poison),
        (INVALID, Poison),
        (ArtifactDamaged("damaged"), Poison),
        (FileNotFoundError(2, "no such file", "x"), NotThereYet),
        (ConnectionResetError("gone"), Transient),
        (TimeoutError("late"), Transient),
        (Poison("as it is"), Poison),
        (Transient("as it is"), Transient),
        (KeyError("ours"), KeyError),
    ],
    ids=lambda value: repr(value) if isinstance(value, Exception) else value.__name__,
)
def test_a_record_is_tried_again_or_buried_by_what_went_wrong(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, classify_errors():
        raise error
    assert type(caught.value) is kind
    if kind is not KeyError:
        assert str(caught.value)


def test_a_time_that_a_model_server_named_is_kept() -> None:
    with pytest.raises(Transient) as caught, classify_errors():
        raise ModelUnavailable("busy", retry_after=12.0)
    assert caught.value.retry_after == 12.0


def test_what_goes_well_goes_through() -> None:
    with classify_errors():
        done = True
    assert done
