"""Watching trainings over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from duologue.contracts.v1 import training_pb2 as pb
from duologue.contracts.v1 import training_pb2_grpc
from duologue_training.rpc import TrainingRpc
from duologue_training.trainings import Trainings
from tests.support.grpc_server import serving


@pytest.fixture
def trainings() -> Trainings:
    return Trainings()


@pytest.fixture
async def service(trainings: Trainings) -> AsyncIterator[training_pb2_grpc.TrainingServiceStub]:
    register = training_pb2_grpc.add_TrainingServiceServicer_to_server
    async with (
        serving(register, TrainingRpc(trainings)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield training_pb2_grpc.TrainingServiceStub(channel)


def progress(stage: str, step: int = 0, name: str = "desk-r1") -> pb.TrainingProgress:
    return pb.TrainingProgress(training_id=name, stage=stage, step=step, steps=3)


@pytest.mark.parametrize("last", ["done", "failed"])
async def test_watching_shows_progress_until_the_training_is_over(
    trainings: Trainings, service: training_pb2_grpc.TrainingServiceStub, last: str
) -> None:
    await trainings.update(progress("loading"))
    stream = service.WatchTraining(pb.WatchTrainingRequest(training_id="desk-r1"))
    async with asyncio.timeout(10):
        assert (await stream.read()).progress == progress("loading")
        await trainings.update(progress("training", 1))
        assert (await stream.read()).progress == progress("training", 1)
        await trainings.update(progress(last, 3))
        assert (await stream.read()).progress == progress(last, 3)
        assert await stream.read() is grpc.aio.EOF


async def test_several_may_watch_one_training(
    trainings: Trainings, service: training_pb2_grpc.TrainingServiceStub
) -> None:
    await trainings.update(progress("loading"))
    streams = [service.WatchTraining(pb.WatchTrainingRequest(training_id="desk-r1")) for _ in range(3)]
    async with asyncio.timeout(10):
        for stream in streams:
            await stream.read()
        await trainings.update(progress("done"))
        assert [(await stream.read()).progress.stage for stream in streams] == ["done"] * 3


async def test_a_training_that_is_not_known_is_said_so(service: training_pb2_grpc.TrainingServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match='no training "nothing"') as caught:
        await service.WatchTraining(pb.WatchTrainingRequest(training_id="nothing")).read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_all_trainings_are_listed_and_only_the_last_hundred_remembered(
    trainings: Trainings, service: training_pb2_grpc.TrainingServiceStub
) -> None:
    for number in range(105):
        await trainings.update(progress("done", name=f"t{number}"))
    listed = (await service.ListTrainings(pb.ListTrainingsRequest())).trainings
    assert [item.training_id for item in listed] == [f"t{number}" for number in range(5, 105)]
