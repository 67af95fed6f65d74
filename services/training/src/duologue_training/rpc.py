"""Questions to the training service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from duologue.contracts.v1 import training_pb2 as pb
from duologue.contracts.v1 import training_pb2_grpc
from duologue.runtime.errors import NotFound
from duologue_training.trainings import Trainings


class TrainingRpc(training_pb2_grpc.TrainingServiceServicer):
    """See protos/duologue/v1/training.proto."""

    def __init__(self, trainings: Trainings) -> None:
        self._trainings = trainings

    async def WatchTraining(
        self, request: pb.WatchTrainingRequest, context: Any
    ) -> AsyncIterator[pb.WatchTrainingResponse]:
        if self._trainings.get(request.training_id) is None:
            raise NotFound(f'there is no training "{request.training_id}" here')
        async for progress in self._trainings.watch(request.training_id):
            yield pb.WatchTrainingResponse(progress=progress)

    async def ListTrainings(self, request: pb.ListTrainingsRequest, context: Any) -> pb.ListTrainingsResponse:
        return pb.ListTrainingsResponse(trainings=self._trainings.known())
