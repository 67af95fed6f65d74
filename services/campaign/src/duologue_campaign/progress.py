"""How far a training is, asked of all copies of the training service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc

from duologue.contracts.v1 import training_pb2 as pb
from duologue.contracts.v1 import training_pb2_grpc

_CALL_SECONDS = 2.0
_WAITING = "waiting"


class TrainingProgress:
    """A copy that does not answer leaves the progress of its trainings unknown, nothing more."""

    def __init__(self, copies: Sequence[training_pb2_grpc.TrainingServiceAsyncStub]) -> None:
        self._copies = copies
        self._seen: dict[str, tuple[str, int]] = {}

    async def of(self, training_id: str) -> tuple[float, float, str]:
        """Share of the steps that are done, in [0, 1], the last loss, and what it waits for; nothing when unknown."""
        for training in await self._known():
            if training.training_id == training_id:
                return training.step / max(training.steps, 1), training.loss, training.reason
        return 0.0, 0.0, ""

    async def moves(self) -> bool:
        """Whether any training got on since the last call: one that waits behind another does not stand still.

        Nor does one whose Job waits for its place in the cluster: the training service says how long it may.
        """
        known = {training.training_id: (training.stage, training.step) for training in await self._known()}
        moved = any(place[0] == _WAITING or self._seen.get(training) != place for training, place in known.items())
        self._seen.update(known)
        return moved

    async def _known(self) -> list[pb.TrainingProgress]:
        known = await asyncio.gather(*(_known_to(copy) for copy in self._copies))
        return [training for of_copy in known for training in of_copy]


async def _known_to(copy: training_pb2_grpc.TrainingServiceAsyncStub) -> list[pb.TrainingProgress]:
    try:
        response = await copy.ListTrainings(pb.ListTrainingsRequest(), timeout=_CALL_SECONDS)
    except grpc.RpcError:
        return []
    return list(response.trainings)
