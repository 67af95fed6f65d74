"""The worker loop: fetch, handle with bounded concurrency, finish; retry what may pass, bury what never will."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import structlog
from opentelemetry.trace import INVALID_SPAN, Span

from duologue.bus.circuit import CircuitBreaker
from duologue.bus.in_hand import InHand, RecordCancelled
from duologue.bus.limit import DeadLetterLimit
from duologue.bus.metrics import WorkerMetrics
from duologue.bus.record import (
    MOST_HEADER_BYTES,
    Bus,
    Delivery,
    LeaseLost,
    Record,
    RecordTooLarge,
    Subscription,
    header_bytes,
)
from duologue.bus.retry import RetryPolicy
from duologue.bus.spans import handling, settling, show_outcome
from duologue.contracts.topics import Topic
from duologue.telemetry import timed

log = structlog.get_logger(__name__)

_LONGEST_REASON = 2000
_LONGEST_ORIGIN = 300
# Outcomes on their way to the bus; they stay in memory until they are there.
_MOST_WRITING = 500
# Between two looks at how far behind this member is.
_LAG_SECONDS = 5.0

# Headers of a record that was put aside. Its bytes and its own headers stay as they came.
ATTEMPT = "duologue-attempt"
DEADLINE = "duologue-deadline"
REASON = "duologue-reason"
ORIGIN = "duologue-origin"
FAILED_AT = "duologue-failed-at"


class Poison(Exception):
    """This record can never be worked with, as the message says: dead letter."""


class Transient(Exception):
    """This may pass: try again. `retry_after` in seconds, where the one who refused named a time."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotThereYet(Transient):
    """What this record refers to may still come: try again. Others fare well meanwhile, so this is no outage."""


Handle = Callable[[Record], Awaitable[Sequence[Record]]]
"""Makes of a record what it causes. Raises `Poison` or `Transient`; anything else is taken for a mistake of ours."""


def number_in(headers: Mapping[str, str], name: str, otherwise: float) -> float:
    """A header as a finite number; `otherwise` where it is missing or anything else: headers come from outside."""
    try:
        number = float(headers[name])
    except (KeyError, ValueError):
        return otherwise
    return number if math.isfinite(number) else otherwise


class Worker:
    """One member of a group that works off one topic and its retries.

    `handle` turns a record into what it causes; those records and the end of the delivery are written together.
    At most `concurrency` records are in work, and no more are fetched: a slow handler slows the intake. Those whose
    outcome is being written don't count: a bus writes many together. Records of one key are handled one after the
    other. While none goes well, as when a model server is down, they wait: one at a time
    is tried, and none of their attempts counts. When more than `dead_letter_share` of the last records are dead letters
    the worker leaves its group and waits to be stopped: better a topic that stands still than one that is thrown away.
    A record that `is_cancelled` is not handled: it is done, and causes nothing.
    """

    def __init__(
        self,
        bus: Bus,
        topic: Topic,
        group: str,
        handle: Handle,
        *,
        concurrency: int,
        retry: RetryPolicy,
        dead_letter_share: float = 1.0,
        is_cancelled: Callable[[Record], bool] | None = None,
    ) -> None:
        self._bus = bus
        self._topic = topic
        self._group = group
        self._handle = handle
        self._room = asyncio.Event()
        self._room.set()
        self._concurrency = concurrency
        self._retry = retry
        self._circuit = CircuitBreaker(retry)
        self._limit = DeadLetterLimit(dead_letter_share)
        self._in_hand = InHand(is_cancelled or (lambda _: False))
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: set[asyncio.Task[None] | None] = set()
        self._failure: asyncio.Future[None] | None = None
        self._metrics = WorkerMetrics(topic.name, group, lambda: self._circuit.is_open)

    async def run(self, stopping: asyncio.Event, drain_seconds: float) -> None:
        """Work until `stopping` is set, then finish what is in work, for `drain_seconds` at most.

        Raises what a delivery could not be finished with: a worker that can't write its outcome must not go on.
        """
        self._failure = asyncio.get_running_loop().create_future()
        topics = (self._topic.name, self._topic.retry(self._group))
        subscription = await self._bus.subscribe(self._topic.consumer_group(self._group), topics)
        intake = asyncio.create_task(self._intake(subscription))
        stop = asyncio.create_task(stopping.wait())
        limit = asyncio.create_task(self._limit.exceeded.wait())
        watch = asyncio.create_task(self._watch_lag(subscription))
        try:
            first: set[asyncio.Future[Any]] = {intake, stop, limit, watch, self._failure}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            intake.cancel()  # what is not in work by now is left to others
            self._circuit.stop()
            if (stopping.is_set() or self._limit.exceeded.is_set()) and self._tasks:
                await asyncio.wait(self._tasks, timeout=drain_seconds)
        finally:
            for task in (intake, stop, limit, watch, *self._tasks):
                task.cancel()
            await asyncio.gather(intake, stop, limit, watch, *self._tasks, return_exceptions=True)
            await subscription.close()
            self._metrics.left(topics)
        if self._failure.done():
            self._failure.result()
        for task in (intake, watch):
            if task.done() and not task.cancelled():
                task.result()
        if self._limit.exceeded.is_set() and not stopping.is_set():
            await self._stand_still(stopping)

    def drop_cancelled(self) -> None:
        """End the work on records that are cancelled by now."""
        self._in_hand.drop_cancelled()

    async def _stand_still(self, stopping: asyncio.Event) -> None:
        """Until people have looked, and start the service again."""
        log.error(
            "consumer stopped: too many dead letters; see `duologue dlq list`, mend the cause, start the service again",
            topic=self._topic.name,
            group=self._group,
            more_than=self._limit.share,
        )
        self._metrics.stopped()
        await stopping.wait()

    async def _intake(self, subscription: Subscription) -> None:
        while True:
            await self._room.wait()
            deliveries = await subscription.fetch(self._free)
            if not deliveries:
                return
            for delivery in deliveries:
                self._start(subscription, delivery)
            self._update_room()

    async def _watch_lag(self, subscription: Subscription) -> None:
        while True:
            self._metrics.behind(await subscription.lag())
            await asyncio.sleep(_LAG_SECONDS)

    @property
    def _free(self) -> int:
        return self._concurrency - (len(self._tasks) - len(self._writing))

    def _update_room(self) -> None:
        if self._free > 0 and len(self._writing) < _MOST_WRITING:
            self._room.set()
        else:
            self._room.clear()

    def _start(self, subscription: Subscription, delivery: Delivery) -> None:
        key = delivery.record.key
        task = asyncio.create_task(self._work(subscription, delivery, self._tails.get(key)))
        self._tails[key] = task
        self._tasks.add(task)

        def done(finished: asyncio.Task[None]) -> None:
            self._tasks.discard(finished)
            self._writing.discard(finished)  # not before: nobody may take the slot for taken again
            self._update_room()
            if self._tails.get(key) is finished:
                del self._tails[key]
            error = None if finished.cancelled() else finished.exception()
            if error is not None and self._failure is not None and not self._failure.done():
                self._failure.set_exception(error)

        task.add_done_callback(done)

    async def _work(self, subscription: Subscription, delivery: Delivery, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # also for one that is cancelled: others may wait for it, and so for those before it
            await asyncio.wait({before})
        structlog.contextvars.bind_contextvars(**{"topic": delivery.record.topic, self._topic.key: delivery.record.key})
        span: Span = INVALID_SPAN
        with ExitStack() as observed:
            try:
                with self._in_hand.held(delivery.record):
                    if not await self._circuit.admit():
                        return
                    attempt = _attempt_of(delivery)
                    span = observed.enter_context(handling(delivery, self._group, attempt))
                    observed.enter_context(self._metrics.in_flight.track_inprogress())
                    observed.enter_context(timed(self._metrics.seconds))
                    self._metrics.began(delivery.record, attempt)
                    outcome, outputs = await self._attempt(delivery)
            except RecordCancelled:
                outcome, outputs = "cancelled", ()
            self._writing.add(asyncio.current_task())
            self._update_room()
            try:
                outcome = await self._finish(subscription, delivery, outcome, outputs)
            except LeaseLost as error:
                log.warning("lease lost", place=delivery.place, reason=str(error))
                outcome = "lease_lost"
            show_outcome(span, outcome)
        self._metrics.handled(outcome)
        self._limit.count(is_dead=outcome == "dead")

    async def _finish(
        self, subscription: Subscription, delivery: Delivery, outcome: str, outputs: Sequence[Record]
    ) -> str:
        with settling(delivery):
            try:
                await subscription.finish(delivery, outputs)
            except RecordTooLarge as error:  # of what it causes: another attempt would cause the same
                await subscription.finish(delivery, [self._dead_letter(delivery, str(error))])
                return "dead"
            return outcome

    async def _attempt(self, delivery: Delivery) -> tuple[str, Sequence[Record]]:
        """What became of the delivery, and the records to write for it."""
        record = delivery.record
        try:
            outputs = await self._handle(record)
            self._circuit.succeed()
            return "done", outputs
        except Poison as error:
            return "dead", [self._dead_letter(delivery, str(error))]
        except Transient as error:
            if not isinstance(error, NotThereYet):
                self._circuit.fail(_origin(delivery), str(error))
                if self._circuit.is_open:  # an outage: this attempt does not count
                    return self._again(delivery, str(error), self._pause(delivery, error.retry_after), {})
            return self._put_off(delivery, str(error), error.retry_after)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this worker was cancelled, but something that the handler waited for.
            return self._put_off(delivery, "what the handler waited for was cancelled")
        except Exception as error:
            # Ours, not the record's: say so with the stack, and treat it as something that a fixed version may solve.
            log.exception("handler failed", place=delivery.place, key=record.key)
            return self._put_off(delivery, f"{type(error).__name__}: {error}")

    def _put_off(self, delivery: Delivery, reason: str, retry_after: float = 0.0) -> tuple[str, Sequence[Record]]:
        """Another attempt, or after the deadline none."""
        attempt = _attempt_of(delivery)
        now = time.time()
        latest = now + self._retry.deadline
        deadline = min(number_in(delivery.record.headers, DEADLINE, latest), latest)
        pause = self._pause(delivery, retry_after)
        if now + pause > deadline:
            return "dead", [self._dead_letter(delivery, f"gave up after {attempt} attempts: {reason}")]
        return self._again(delivery, reason, pause, {ATTEMPT: str(attempt + 1), DEADLINE: str(deadline)})

    def _pause(self, delivery: Delivery, retry_after: float) -> float:
        """Seconds. What a server asks for is heard up to the longest pause: its slip must not cost a record a day."""
        return max(
            self._retry.delay(_attempt_of(delivery), random.random()),
            min(retry_after, self._retry.longest),
        )

    def _again(
        self, delivery: Delivery, reason: str, pause: float, extra: dict[str, str]
    ) -> tuple[str, Sequence[Record]]:
        attempt = _attempt_of(delivery)
        log.warning("will retry", place=delivery.place, attempt=attempt, seconds=round(pause, 2), reason=reason)
        retry = self._topic.retry(self._group)
        return "retried", [self._aside(delivery, retry, reason, extra, time.time() + pause)]

    def _dead_letter(self, delivery: Delivery, reason: str) -> Record:
        log.error("dead letter", place=delivery.place, key=delivery.record.key, reason=reason)
        extra = {FAILED_AT: str(time.time())}
        return self._aside(delivery, self._topic.dead_letters(self._group), reason, extra, 0.0)

    def _aside(self, delivery: Delivery, topic: str, reason: str, extra: dict[str, str], not_before: float) -> Record:
        ours = {ORIGIN: _origin(delivery), REASON: reason[:_LONGEST_REASON], **extra}
        headers = _with_ours(delivery.record.headers, ours)
        return replace(delivery.record, topic=topic, headers=headers, not_before=not_before)


def _with_ours(headers: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """The headers of a record and ours; where that is more than a record may have, without its largest."""
    kept = {**headers, **ours}
    excess = header_bytes(kept) - MOST_HEADER_BYTES
    if excess > 0:
        for name in sorted(headers.keys() - ours.keys(), key=lambda name: len(headers[name]), reverse=True):
            excess -= header_bytes({name: kept.pop(name)})
            if excess <= 0:
                break
    return kept


def _origin(delivery: Delivery) -> str:
    """Where the record stood first, through all its attempts."""
    return delivery.record.headers.get(ORIGIN, delivery.place)[:_LONGEST_ORIGIN]


def _attempt_of(delivery: Delivery) -> int:
    return max(int(number_in(delivery.record.headers, ATTEMPT, 1)), 1)
