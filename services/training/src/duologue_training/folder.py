"""Folders of trainings under way. What is in them outlives a process that is killed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from duologue_training.plan import TrainingPlan, TrainingResult

# A finished training that nobody asked for again in this time is not going to be stored.
_KEPT_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """What the training process is told and what it makes: `plan.json`, `out/`, and last `result.json`."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def out(self) -> Path:
        """What goes into the artifact store."""
        return self.path / "out"

    @property
    def result(self) -> Path:
        """A `TrainingResult`. With it the training is finished."""
        return self.path / "result.json"

    def begin(self, plan: TrainingPlan) -> None:
        self.remove()
        self.out.mkdir(parents=True)
        self.plan.write_text(plan.model_dump_json())

    def finished(self, plan: TrainingPlan) -> TrainingResult | None:
        """The result of this very plan, if it is here."""
        try:
            if self.plan.read_text() != plan.model_dump_json():
                return None
            return self.read_result()
        except (FileNotFoundError, ValidationError):
            return None

    def read_result(self) -> TrainingResult:
        """Of a training that ended well."""
        return TrainingResult.model_validate_json(self.result.read_text())

    def remove(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)


class WorkFolder:
    """The folders of one service process, by training id."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def of(self, training_id: str) -> TrainingFolder:
        return TrainingFolder(self._root / training_id)

    def sweep(self) -> None:
        """Remove what a process that was killed left unfinished, and what was finished long ago. Only at the start."""
        oldest = time.time() - _KEPT_SECONDS
        for path in self._root.glob("*"):
            folder = TrainingFolder(path)
            if not folder.result.exists() or folder.result.stat().st_mtime < oldest:
                folder.remove()
