"""Trainings in a child process of the service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Self

from duologue.store import ArtifactStore
from duologue_training.adapter import store_adapter
from duologue_training.child import ChildFailed, run_job
from duologue_training.folder import TrainingFolder, WorkFolder
from duologue_training.order import TrainingOrder
from duologue_training.plan import UNUSABLE
from duologue_training.settings import Settings
from duologue_training.trainer import Told, TrainingFailed


class ChildTrainer:
    """What a service that was killed had finished is only stored."""

    at_once = 1  # a training takes all the processors or the GPU that there is

    def __init__(self, artifacts: ArtifactStore, settings: Settings) -> None:
        self._artifacts = artifacts
        self._work = WorkFolder(Path(settings.work))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._work.sweep)
        return self

    async def __aexit__(self, *_: object) -> None:
        """A child that is still at work ends with the task that runs it."""

    async def next_attempt(self, order: TrainingOrder, told: Told) -> int:
        return 1

    async def attempt(self, order: TrainingOrder, number: int, told: Told) -> None:
        work = self._work.of(order.training_id)
        result = await asyncio.to_thread(work.finished, order.plan)
        if result is None:
            await self._run(work, order, told)
            result = await asyncio.to_thread(work.read_result)
        await asyncio.to_thread(store_adapter, self._artifacts, order, result, work.out)
        await asyncio.to_thread(work.remove)

    async def abandon(self, order: TrainingOrder) -> None:
        await asyncio.to_thread(self._work.of(order.training_id).remove)

    async def _run(self, work: TrainingFolder, order: TrainingOrder, told: Told) -> None:
        await asyncio.to_thread(work.begin, order.plan)
        try:
            await run_job(work, told)
        except ChildFailed as error:
            await asyncio.to_thread(work.remove)
            raise TrainingFailed(str(error), is_final=error.status == UNUSABLE) from error
