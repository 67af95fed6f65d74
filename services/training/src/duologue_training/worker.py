"""One request for a training becomes an adapter, or an error that says why not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from io import BytesIO
from typing import Any

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
from duologue.store import ArtifactStore, check_name
from duologue_training.adapter import adapter_folder, is_stored
from duologue_training.order import TrainingOrder
from duologue_training.plan import Example, ProgressLine, TrainingPlan, TrainingRecord
from duologue_training.settings import Settings
from duologue_training.trainer import Trainer, TrainingFailed
from duologue_training.trainings import Trainings

log = structlog.get_logger(__name__)

_LONGEST_ERROR = 10_000

UntilCancelled = Callable[[str], Coroutine[Any, Any, object]]
"""Returns when the campaign with this id is cancelled."""

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

    A request that can't be carried out, or is not wanted any more, is answered with the reason: a campaign waits for
    the answer.
    """

    def __init__(
        self,
        artifacts: ArtifactStore,
        trainer: Trainer,
        trainings: Trainings,
        settings: Settings,
        until_cancelled: UntilCancelled,
    ) -> None:
        self._artifacts = artifacts
        self._trainer = trainer
        self._trainings = trainings
        self._settings = settings
        self._until_cancelled = until_cancelled

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
        if not await asyncio.to_thread(is_stored, self._artifacts, event.adapter_id):
            await self._train_unless_cancelled(await self._order(event))
        return await asyncio.to_thread(self._completed, event, adapter_folder(event.adapter_id))

    async def _order(self, event: pb.TrainingRequested) -> TrainingOrder:
        if not event.base_model:
            raise Poison(
                "no base model: set training.base_model in the campaign, or base_model of the campaign service"
            )
        return TrainingOrder(event, self._plan(event, await asyncio.to_thread(self._examples, event)))

    async def _train_unless_cancelled(self, order: TrainingOrder) -> None:
        """Who stops the service does not cancel the campaign: a Job goes on then, and is found again."""
        training = asyncio.create_task(self._train(order))
        cancelled = asyncio.create_task(self._until_cancelled(order.request.campaign_id))
        try:
            await asyncio.wait({training, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            is_cancelled = not training.done()
        finally:
            for task in (training, cancelled):
                task.cancel()
            await asyncio.gather(training, cancelled, return_exceptions=True)
        if is_cancelled:
            await self._trainer.abandon(order)
            raise Poison("the campaign was cancelled")
        training.result()

    async def _train(self, order: TrainingOrder) -> None:
        started = time.monotonic()

        async def told(line: ProgressLine) -> None:
            if line.stage != "done":  # done is when it is stored
                await self._tell_progress(order.request, line, time.monotonic() - started)

        attempts = self._settings.attempts
        first = await self._trainer.next_attempt(order, told)
        for number in range(first, max(attempts, first) + 1):
            try:
                await self._trainer.attempt(order, number, told)
                _SECONDS.observe(time.monotonic() - started)
                return
            except TrainingFailed as error:
                log.warning("training failed", training=order.training_id, attempt=number, error=str(error))
                if error.is_final or number >= attempts:
                    raise Poison(str(error)) from error

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

    async def _tell_progress(self, event: pb.TrainingRequested, line: ProgressLine, seconds: float) -> None:
        _PROGRESS.set(line.step / line.steps if line.steps else 0)
        await self._trainings.update(
            training_pb2.TrainingProgress(
                training_id=event.training_id,
                stage=line.stage,
                step=line.step,
                steps=line.steps,
                loss=line.loss,
                seconds=seconds,
                reason=line.reason,
            )
        )

    async def _tell(self, event: pb.TrainingRequested, stage: str, error: str = "") -> None:
        _PROGRESS.set(0)  # it is over
        await self._trainings.update(
            training_pb2.TrainingProgress(training_id=event.training_id, stage=stage, error=error)
        )


def _told(error: Poison) -> str:
    """As the campaign takes it: a process may say anything on its way out."""
    return str(error).replace("\0", "")[:_LONGEST_ERROR]


def _twice(uris: Iterable[str]) -> str:
    """One that comes more than once; empty when none does."""
    return next((uri for uri, times in Counter(uris).items() if times > 1), "")
