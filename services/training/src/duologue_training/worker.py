"""One request for a training becomes an adapter, or an error that says why not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from prometheus_client import Counter as Metric
from prometheus_client import Gauge, Histogram
from pydantic import ValidationError

from duologue.bus import Poison, Record
from duologue.bus.codec import encode
from duologue.contracts.topics import TRAINING_COMPLETED
from duologue.contracts.v1 import dialogue_pb2, training_pb2
from duologue.contracts.v1 import events_pb2 as pb
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactStore, check_name, listing_sha256
from duologue_training.card import adapter_card
from duologue_training.child import ChildFailed, run_job
from duologue_training.folder import TrainingFolder, WorkFolder
from duologue_training.plan import (
    UNUSABLE,
    DatasetUsed,
    Example,
    ProgressLine,
    TrainingPlan,
    TrainingRecord,
    TrainingResult,
)
from duologue_training.settings import Settings
from duologue_training.trainings import Trainings

log = structlog.get_logger(__name__)

_LONGEST_ERROR = 10_000

_ANSWERED = Metric("duologue_trainings_total", "Requests for a training answered, by how it went.", ("outcome",))
_DONE, _FAILED = _ANSWERED.labels("done"), _ANSWERED.labels("failed")
_SECONDS = Histogram(
    "duologue_training_seconds",
    "Time of a training, from the start of its process to its weights.",
    buckets=(10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
)
_PROGRESS = Gauge("duologue_training_progress_ratio", "Share of the steps of the training under way; 0 for none.")


class TrainAdapter:
    """Trains what is requested. A training that is already in the artifact store is told of, not done again.

    A request that can't be carried out is answered with the reason: a campaign waits for the answer.
    """

    def __init__(self, artifacts: ArtifactStore, work: WorkFolder, trainings: Trainings, settings: Settings) -> None:
        self._artifacts = artifacts
        self._work = work
        self._trainings = trainings
        self._settings = settings

    async def handle(self, event: pb.TrainingRequested) -> Sequence[Record]:
        try:
            with classify_errors():
                completed = await self._complete(event)
            await self._tell(event, "done")
            _DONE.inc()
        except Poison as error:
            completed = pb.TrainingCompleted(error=_told(error))
            await self._tell(event, "failed", error=completed.error)
            _FAILED.inc()
        completed.training_id = event.training_id
        completed.campaign_id = event.campaign_id
        completed.round = event.round
        return [encode(TRAINING_COMPLETED, completed, "training")]

    async def _complete(self, event: pb.TrainingRequested) -> pb.TrainingCompleted:
        check_name("training_id", event.training_id)
        check_name("adapter_id", event.adapter_id)
        folder = f"adapters/{event.adapter_id}"
        if not await asyncio.to_thread(self._artifacts.exists, f"{folder}/training.json"):
            await self._train(event, folder)
        return await asyncio.to_thread(self._completed, event, folder)

    async def _train(self, event: pb.TrainingRequested, folder: str) -> None:
        """Train and store. What a process that was killed had finished is only stored."""
        if not event.base_model:
            raise Poison(
                "no base model: set training.base_model in the campaign, or base_model of the campaign service"
            )
        plan = self._plan(event, await asyncio.to_thread(self._examples, event))
        work = self._work.of(event.training_id)
        result = await asyncio.to_thread(work.finished, plan) or await self._run(event, plan, work)
        await asyncio.to_thread(self._store, event, plan, result, work.out, folder)
        await asyncio.to_thread(work.remove)

    async def _run(self, event: pb.TrainingRequested, plan: TrainingPlan, work: TrainingFolder) -> TrainingResult:
        started = time.monotonic()

        async def told(line: ProgressLine) -> None:
            if line.stage != "done":  # done is when it is stored
                seconds = time.monotonic() - started
                await self._tell(event, line.stage, line.step, line.steps, line.loss, seconds)

        for attempt in range(1, self._settings.attempts + 1):
            await asyncio.to_thread(work.begin, plan)
            try:
                await run_job(work, told)
                break
            except ChildFailed as error:
                log.warning("training process failed", training=event.training_id, attempt=attempt, error=str(error))
                if error.status == UNUSABLE or attempt == self._settings.attempts:
                    await asyncio.to_thread(work.remove)
                    raise Poison(str(error)) from error
        _SECONDS.observe(time.monotonic() - started)
        return TrainingResult.model_validate_json(work.result.read_text())

    def _store(
        self, event: pb.TrainingRequested, plan: TrainingPlan, result: TrainingResult, out: Path, folder: str
    ) -> None:
        base_model_sha256 = listing_sha256(result.base_files)
        (out / "README.md").write_text(adapter_card(event, plan, result, base_model_sha256))
        record = TrainingRecord(
            campaign_id=event.campaign_id,
            round=event.round,
            base_model=event.base_model,
            base_model_sha256=base_model_sha256,
            datasets=[
                DatasetUsed(dataset_id=sealed.dataset_id, uri=sealed.data.uri, sha256=sealed.data.sha256)
                for sealed in event.datasets
            ],
            plan=plan.model_dump(exclude={"examples"}),
            result=result,
            sha256=self._artifacts.write_folder(folder, out).sha256,
        )
        # Last, and atomically: an adapter with this file is whole.
        self._artifacts.write(f"{folder}/training.json", record.model_dump_json(indent=2).encode())

    def _examples(self, event: pb.TrainingRequested) -> list[Example]:
        examples: list[Example] = []
        if twice := _twice(sealed.data.uri for sealed in event.datasets):
            raise Poison(f"datasets: {twice} comes twice, and would count twice")
        for sealed in event.datasets:
            if not sealed.data.sha256:
                raise Poison(f"datasets: {sealed.data.uri!r} comes without its sha256")
            data = self._artifacts.read(sealed.data.uri, sealed.data.sha256)
            try:
                for turns in pq.read_table(BytesIO(data), columns=["examples"])["examples"].to_pylist():
                    examples.extend(Example(prompt=turn["prompt"], completion=turn["completion"]) for turn in turns)
            # OSError as well: of a file that is damaged, for the bytes are here.
            except (pa.ArrowException, LookupError, OSError, TypeError, ValueError) as error:
                raise Poison(f"{sealed.data.uri} is no dataset: {error}") from error
        if not examples:
            raise Poison("nothing to learn from: there is no agent turn in the datasets")
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

    def _completed(self, event: pb.TrainingRequested, folder: str) -> pb.TrainingCompleted:
        try:
            record = TrainingRecord.model_validate_json(self._artifacts.read(f"{folder}/training.json"))
        except ValidationError as error:
            raise Poison(f"{folder}/training.json is no record of a training: {error}") from error
        result = record.result
        merged = self._artifacts.local_path(f"{folder}/merged")
        served = str(merged) if merged is not None and merged.is_dir() else event.adapter_id
        fingerprint = self._artifacts.stored(f"{folder}/fingerprint.json")
        return pb.TrainingCompleted(
            adapter=dialogue_pb2.AdapterRef(
                id=event.adapter_id,
                served_model=served,
                fingerprint=dialogue_pb2.Artifact(uri=fingerprint.uri, sha256=fingerprint.sha256),
            ),
            artifact=dialogue_pb2.Artifact(uri=folder, sha256=record.sha256),
            examples=result.examples,
            steps=result.steps,
            first_loss=result.losses[0] if result.losses else 0.0,
            last_loss=result.losses[-1] if result.losses else 0.0,
            seconds=result.seconds,
        )

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
        _PROGRESS.set(step / steps if steps else 0)
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


def _told(error: Poison) -> str:
    """As the campaign takes it: a process may say anything on its way out."""
    return str(error).replace("\0", "")[:_LONGEST_ERROR]


def _twice(uris: Iterable[str]) -> str:
    """One that comes more than once; empty when none does."""
    return next((uri for uri, times in Counter(uris).items() if times > 1), "")
