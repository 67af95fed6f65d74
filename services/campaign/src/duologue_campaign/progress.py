"""How far a training is, asked of the training service."""

from __future__ import annotations

import grpc

from duologue.contracts.v1 import training_pb2 as pb
from duologue.contracts.v1 import training_pb2_grpc

_CALL_SECONDS = 2.0


class TrainingProgress:
    """Progress for those who watch. A training service that does not answer leaves it unknown, nothing more."""

    def __init__(self, training: training_pb2_grpc.TrainingServiceAsyncStub) -> None:
        self._training = training

    async def of(self, training_id: str) -> tuple[float, float]:
        """Share of the steps that are done, in [0, 1], and the last loss; zeros when unknown."""
        try:
            response = await self._training.ListTrainings(pb.ListTrainingsRequest(), timeout=_CALL_SECONDS)
        except grpc.RpcError:
            return 0.0, 0.0
        for training in response.trainings:
            if training.training_id == training_id and training.steps:
                return training.step / training.steps, training.loss
        return 0.0, 0.0
