"""All that a process writes to Kafka: in transactions, one after the other, each with whatever waits by then.

A hundred records that are finished at the same time cost one transaction. What a record causes and the offset that says
that it is done are in the same one, checked by the broker against the member's generation: a member that was thought
dead can finish nothing that another has taken over.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import AuthorizationError, MessageSizeTooLargeError, RecordListTooLargeError

from duologue.bus.kafka.progress import Progress
from duologue.bus.kafka.records import Encoded, encode
from duologue.bus.kafka.rights import as_missing_right
from duologue.bus.kafka.writer import Writer
from duologue.bus.record import Delivery, LeaseLost, Record, RecordTooLarge

log = structlog.get_logger(__name__)

_MOST_TOGETHER = 500
_PAUSE_SECONDS = 0.1
# How long writing is tried again, as while brokers are away, before the caller hears of it.
_PATIENCE_SECONDS = 120.0

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Member(Protocol):
    """Of a group; what is finished is finished in its name."""

    @property
    def membership(self) -> Any:
        """As the broker knows it."""
        ...

    def progress_of(self, delivery: Delivery, membership: Any) -> Progress:
        """Of the delivery's partition. Raises `LeaseLost` when it is not held any more, or not by this membership."""
        ...

    async def has_committed(self, delivery: Delivery) -> bool:
        """Whether the broker has it that the delivery is finished."""
        ...


@dataclass(eq=False)
class _Job:
    """Records to write and, where they finish a delivery, that. `expires_at` by the monotonic clock."""

    records: list[Encoded]
    member: Member | None = None
    delivery: Delivery | None = None
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    expires_at: float = field(default_factory=lambda: time.monotonic() + _PATIENCE_SECONDS)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def succeed(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Transactions:
    """The one writer of a process."""

    def __init__(self, connect: Callable[[], KafkaProducer]) -> None:
        """`connect` makes a producer that has a transactional id, the same every time."""
        self._writer = Writer(connect)
        self._waiting: asyncio.Queue[_Job] = asyncio.Queue()
        self._at_work: list[_Job] = []
        self._task = asyncio.create_task(self._run(), name="kafka-transactions")

    async def begin(self) -> None:
        await self._writer.begin()

    async def publish(self, records: Sequence[Record]) -> None:
        await self._submit(_Job([encode(record) for record in records]))

    async def finish(self, member: Member, delivery: Delivery, outputs: Sequence[Record]) -> None:
        await self._submit(_Job([encode(record) for record in outputs], member, delivery))

    async def close(self) -> None:
        """Whoever still waits is cancelled."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._writer.close()

    async def _submit(self, job: _Job) -> None:
        if self._task.done():
            raise RuntimeError("the bus is closed")
        self._waiting.put_nowait(job)
        await job.done

    async def _run(self) -> None:
        try:
            while True:
                self._at_work = [await self._waiting.get()]
                while not self._waiting.empty() and len(self._at_work) < _MOST_TOGETHER:
                    self._at_work.append(self._waiting.get_nowait())
                await self._write(self._at_work)
        finally:
            while not self._waiting.empty():
                self._at_work.append(self._waiting.get_nowait())
            for job in self._at_work:
                job.done.cancel()

    async def _write(self, jobs: Sequence[_Job]) -> None:
        """Write the jobs together; where one of them can't be written at all, each for itself."""
        while jobs := self._still_wanted(jobs):
            try:
                await self._transact(jobs)
            except (*_TOO_LARGE, AuthorizationError) as error:
                if len(jobs) == 1:
                    jobs[0].fail(
                        RecordTooLarge(str(error)) if isinstance(error, _TOO_LARGE) else as_missing_right(error)
                    )
                    return
                for job in jobs:
                    await self._write([job])
                return
            except Exception as error:  # brokers away, the group being rearranged, the producer fenced
                log.warning("not written, trying again", jobs=len(jobs), reason=f"{type(error).__name__}: {error}")
                await self._after(error, jobs)
            else:
                _conclude(jobs)

    def _still_wanted(self, jobs: Sequence[_Job]) -> list[_Job]:
        wanted: dict[Any, _Job] = {}
        for job in jobs:
            if job.done.done():
                continue
            if job.member is None or job.delivery is None:
                wanted[job] = job
                continue
            try:
                progress = job.member.progress_of(job.delivery, job.member.membership)
            except LeaseLost as error:
                job.fail(error)
                continue
            if progress.is_finished(job.delivery.offset):
                job.succeed()  # a finish that is repeated: what it caused was written with the first
            elif wanted.setdefault((job.member, job.delivery.place), job) is not job:
                self._waiting.put_nowait(job)
        return list(wanted.values())

    async def _transact(self, jobs: Sequence[_Job]) -> None:
        finished: dict[Member, list[Delivery]] = defaultdict(list)
        for job in jobs:
            if job.member is not None and job.delivery is not None:
                finished[job.member].append(job.delivery)
        offsets = [_offsets_of(member, deliveries) for member, deliveries in finished.items()]
        await self._writer.write([record for job in jobs for record in job.records], offsets)

    async def _after(self, error: Exception, jobs: Sequence[_Job]) -> None:
        """A transaction failed, or ended without our hearing how: its offsets are committed or not."""
        await asyncio.sleep(_PAUSE_SECONDS)
        for job in jobs:
            if time.monotonic() > job.expires_at:
                job.fail(error)
        try:
            await self._writer.begin()
            if await self._were_committed(jobs):
                _conclude(jobs)
        except Exception as trouble:
            log.debug("not connected", reason=f"{type(trouble).__name__}: {trouble}")

    async def _were_committed(self, jobs: Sequence[_Job]) -> bool:
        """Whether the transaction with all of the jobs was: what this member holds nobody else can have finished."""
        for job in jobs:
            if job.member is not None and job.delivery is not None:
                committed = await job.member.has_committed(job.delivery)
                try:
                    job.member.progress_of(job.delivery, job.member.membership)
                except LeaseLost:
                    continue
                return committed
        return False


def _offsets_of(member: Member, deliveries: Sequence[Delivery]) -> tuple[Any, dict[TopicPartition, OffsetAndMetadata]]:
    """What the member commits, beside the membership that it does so by: one and the same for check and commit."""
    membership = member.membership
    finished: dict[TopicPartition, list[Delivery]] = defaultdict(list)
    for delivery in deliveries:
        finished[TopicPartition(delivery.record.topic, delivery.partition)].append(delivery)
    return membership, {
        partition: OffsetAndMetadata(
            *member.progress_of(of_one[0], membership).after({delivery.offset for delivery in of_one})
        )
        for partition, of_one in finished.items()
    }


def _conclude(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.member is not None and job.delivery is not None:
            try:
                job.member.progress_of(job.delivery, job.member.membership).finish({job.delivery.offset})
            except LeaseLost as error:
                log.debug("finished and lost at the same time", place=job.delivery.place, reason=str(error))
        job.succeed()
