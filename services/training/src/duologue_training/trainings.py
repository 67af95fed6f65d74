"""The trainings that this process knows, and how far they are."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

from duologue.contracts.v1 import training_pb2 as pb

_KEPT = 100
OVER = ("done", "failed")


class Trainings:
    """Progress by training id; the last hundred are remembered."""

    def __init__(self) -> None:
        self._progress: OrderedDict[str, pb.TrainingProgress] = OrderedDict()
        self._changed = asyncio.Condition()

    async def update(self, progress: pb.TrainingProgress) -> None:
        async with self._changed:
            self._progress[progress.training_id] = progress
            self._progress.move_to_end(progress.training_id)
            while len(self._progress) > _KEPT:
                self._progress.popitem(last=False)
            self._changed.notify_all()

    def known(self) -> list[pb.TrainingProgress]:
        return list(self._progress.values())

    def get(self, training_id: str) -> pb.TrainingProgress | None:
        return self._progress.get(training_id)

    async def watch(self, training_id: str) -> AsyncIterator[pb.TrainingProgress]:
        """Progress now and at every change, until the training is over."""
        seen: pb.TrainingProgress | None = None
        while seen is None or seen.stage not in OVER:
            async with self._changed:
                await self._changed.wait_for(lambda before=seen: self.get(training_id) != before)  # type: ignore[misc]
                seen = self.get(training_id)
            if seen is None:
                return  # forgotten: it was over long ago
            yield seen
