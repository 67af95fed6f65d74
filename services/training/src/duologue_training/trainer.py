"""Where trainings run: in a child process of the service, or each in a Job on Kubernetes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, Self

from duologue.runtime.runtime import Resource
from duologue.store import ArtifactStore
from duologue_training.order import TrainingOrder
from duologue_training.plan import ProgressLine
from duologue_training.settings import Settings

Told = Callable[[ProgressLine], Awaitable[None]]


class TrainingFailed(Exception):
    """An attempt ended badly, as the message says. After one that `is_final` another would end so too."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Trainer(Resource, Protocol):
    """Makes adapters of orders. `at_once`: how many it takes at a time."""

    at_once: int

    async def __aenter__(self) -> Self: ...

    async def next_attempt(self, order: TrainingOrder, told: Told) -> int:
        """The number of the attempt to go on with, from 1: of one that was begun and is not over, that one's."""
        ...

    async def attempt(self, order: TrainingOrder, number: int, told: Told) -> None:
        """Train, and store the adapter; `told` is awaited with the progress. Raises `TrainingFailed`."""
        ...

    async def abandon(self, order: TrainingOrder) -> None:
        """Leave nothing at work on the order."""
        ...


def trainer_of(settings: Settings, artifacts: ArtifactStore) -> Trainer:
    """The one that the settings ask for. Raises `WrongSetting`."""
    if settings.job.template:
        from duologue_training.jobs import JobTrainer  # slow to import: the client of Kubernetes

        return JobTrainer(artifacts, settings)
    from duologue_training.local import ChildTrainer

    return ChildTrainer(artifacts, settings)
