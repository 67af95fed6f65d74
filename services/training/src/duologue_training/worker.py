"""One request for a training becomes an adapter, or an error that says why not."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import structlog

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.topics import TRAINING_COMPLETED
from duologue.contracts.v1 import dialogue_pb2, training_pb2
from duologue.contracts.v1 import events_pb2 as pb
from duologue.runtime.failures import sorted_failures
from duologue.store import ArtifactStore
from duologue_training.card import adapter_card
from duologue_training.child import ChildFailed, run_job
from duologue_training.plan import UNUSABLE, Example, ProgressLine, TrainingPlan, TrainingResult
from duologue_training.settings import Settings
from duologue_training.trainings import Trainings

log = structlog.get_logger(__name__)


class TrainAdapter:
    """Trains what is requested. A training that is already in the artifact store is told of, not done again."""

    def __init__(self, artifacts: ArtifactStore, trainings: Trainings, settings: Settings) -> None:
        self._artifacts = artifacts
        self._trainings = trainings
        self._settings = settings

    async def handle(self, event: pb.TrainingRequested) -> Sequence[Record]:
        with sorted_failures():
            folder = f"adapters/{event.adapter_id}"
            if not self._artifacts.exists(f"{folder}/training.json"):
                error = await self._train(event, folder)
                if error:
                    await self._tell(event, "failed", error=error)
                    return [self._completed(event, pb.TrainingCompleted(error=error))]
            await self._tell(event, "done")
            return [self._completed(event, self._result(event, folder))]

    async def _train(self, event: pb.TrainingRequested, folder: str) -> str:
        """Train and store; an error that no further attempt would mend, else empty."""
        if not event.base_model:
            return "no base model: set training.base_model in the campaign, or base_model of the campaign service"
        examples = self._examples(event)
        if not examples:
            return "nothing to learn from: there is no agent turn in the datasets"
        plan = self._plan(event, examples)
        started = time.monotonic()

        async def told(line: ProgressLine) -> None:
            if line.stage != "done":  # done is when it is stored
                seconds = time.monotonic() - started
                await self._tell(event, line.stage, line.step, line.steps, line.loss, seconds)

        for attempt in range(1, self._settings.attempts + 1):
            with tempfile.TemporaryDirectory(prefix="duologue-training-") as temporary:
                plan_file, out = Path(temporary) / "plan.json", Path(temporary) / "out"
                plan_file.write_text(plan.model_dump_json())
                out.mkdir()
                try:
                    await run_job(plan_file, out, told)
                except ChildFailed as error:
                    log.warning(
                        "training process failed", training=event.training_id, attempt=attempt, error=str(error)
                    )
                    if error.status == UNUSABLE or attempt == self._settings.attempts:
                        return str(error)
                    continue
                self._store(event, plan, out, folder)
                return ""
        raise AssertionError("unreachable: the last attempt returns")

    def _store(self, event: pb.TrainingRequested, plan: TrainingPlan, out: Path, folder: str) -> None:
        result_file = out / "training.json"
        result = TrainingResult.model_validate_json(result_file.read_text())
        (out / "README.md").write_text(adapter_card(event, plan, result))
        result_text = result_file.read_text()
        result_file.unlink()
        self._artifacts.write_folder(folder, out)
        # Last, and atomically: an adapter with this file is whole.
        self._artifacts.write(f"{folder}/training.json", result_text.encode())

    def _examples(self, event: pb.TrainingRequested) -> list[Example]:
        examples: list[Example] = []
        for sealed in event.datasets:
            data = self._artifacts.read(sealed.data.uri, sealed.data.sha256)
            for turns in pq.read_table(BytesIO(data), columns=["examples"])["examples"].to_pylist():
                examples.extend(Example(prompt=turn["prompt"], completion=turn["completion"]) for turn in turns)
        return examples

    def _plan(self, event: pb.TrainingRequested, examples: list[Example]) -> TrainingPlan:
        return TrainingPlan(
            training_id=event.training_id,
            base_model=event.base_model,
            examples=examples,
            rank=event.rank,
            alpha=event.alpha,
            learning_rate=event.learning_rate,
            weight_decay=event.weight_decay,
            batch_size=event.batch_size,
            epochs=event.epochs,
            warmup_steps=event.warmup_steps,
            max_tokens=event.max_tokens,
            seed=event.seed,
            merge=self._settings.merge,
            threads=self._settings.threads,
            device=self._settings.device,
        )

    def _result(self, event: pb.TrainingRequested, folder: str) -> pb.TrainingCompleted:
        result = TrainingResult.model_validate_json(self._artifacts.read(f"{folder}/training.json"))
        merged = self._artifacts.local_path(f"{folder}/merged")
        served = str(merged) if merged is not None and merged.is_dir() else event.adapter_id
        fingerprint = self._artifacts.stored(f"{folder}/fingerprint.json")
        return pb.TrainingCompleted(
            adapter=dialogue_pb2.AdapterRef(
                id=event.adapter_id,
                served_model=served,
                fingerprint=dialogue_pb2.Artifact(uri=fingerprint.uri, sha256=fingerprint.sha256),
            ),
            artifact=dialogue_pb2.Artifact(uri=folder),
            examples=result.examples,
            steps=result.steps,
            first_loss=result.losses[0] if result.losses else 0.0,
            last_loss=result.losses[-1] if result.losses else 0.0,
            seconds=result.seconds,
        )

    def _completed(self, event: pb.TrainingRequested, completed: pb.TrainingCompleted) -> Record:
        completed.training_id = event.training_id
        completed.campaign_id = event.campaign_id
        completed.round = event.round
        return encode(TRAINING_COMPLETED, completed, "training")

    async def _tell(
        self,
        event: pb.TrainingRequested,
        stage: str,
        step: int = 0,
        steps: int = 0,
        loss: float = 0.0,
        seconds: float = 0.0,
        error: str = "",
    ) -> None:
        await self._trainings.update(
            training_pb2.TrainingProgress(
                training_id=event.training_id,
                stage=stage,
                step=step,
                steps=steps,
                loss=loss,
                seconds=seconds,
                error=error,
            )
        )
