"""A member of a consumer group: what it holds, what it hands out, and what of that is finished."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import structlog
from kafka import KafkaConsumer
from kafka.future import Future as KafkaFuture

from duologue.bus.backlog import Backlog
from duologue.bus.kafka.poller import Batch, Committed, Place, Poller
from duologue.bus.kafka.progress import Progress, is_finished
from duologue.bus.kafka.records import delivery_of
from duologue.bus.kafka.rights import as_missing_right
from duologue.bus.kafka.transactions import Transactions
from duologue.bus.record import Delivery, LeaseLost, Record
from duologue.bus.waiting import set_within

log = structlog.get_logger(__name__)

# Records that are due and handed to nobody yet: above the one reading pauses, below the other it goes on.
_ENOUGH, _TOO_FEW = 1000, 500

_LONGEST_WAIT_SECONDS = 5.0


@dataclass
class _Partition:
    """A partition that is held, and by which member: one that was thought dead comes back as another."""

    generation: int
    member: str
    progress: Progress
    backlog: Backlog = field(default_factory=Backlog)
    in_flight: set[int] = field(default_factory=set)
    revoked: bool = False


@dataclass
class _Release:
    """Partitions that wait for their work to end before others get them."""

    places: set[Place]
    released: KafkaFuture


class KafkaSubscription:
    """`Subscription` on Kafka.

    A partition that is to go to another member is kept until its work is finished, for `handover_seconds` at most. All
    state lives in the event loop; the consumer lives in the poller's thread, and what is finished is written by the
    transactions'.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        group: str,
        topics: Sequence[str],
        transactions: Transactions,
        handover_seconds: float,
    ) -> None:
        self._group = group
        self._topics = topics
        self._transactions = transactions
        self._handover_seconds = handover_seconds
        self._held: dict[Place, _Partition] = {}
        self._generations = count(1)
        self._releases: list[_Release] = []
        self._changed = asyncio.Event()
        self._closed = False
        self._full = False
        self._looks_again = False
        self._failure: Exception | None = None
        self._poller = Poller(consumer, group, topics, self)

    def join(self) -> None:
        self._poller.start()

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        while not self._closed:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            if handed := self._hand_out(limit):
                return handed
            await set_within(self._changed, self._seconds_until_due())
        return []

    async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
        await self._transactions.finish(self, delivery, outputs)
        held = self._held.get(_place_of(delivery))
        if held is not None and held.generation == delivery.generation:
            held.in_flight.discard(delivery.offset)
            self._look_again()

    async def lag(self) -> Mapping[str, int]:
        behind = dict.fromkeys(self._topics, 0)
        for place, held in self._held.items():
            if (end := self._poller.end_of(place)) is not None:
                behind[place[0]] += max(end - held.progress.committed, 0)
        return behind

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._changed.set()
        self._held.clear()
        self._release_what_is_idle()
        await self._poller.close()

    # For the transactions.

    @property
    def membership(self) -> Any:
        return self._poller.membership

    def progress_of(self, delivery: Delivery, membership: Any) -> Progress:
        held = self._held.get(_place_of(delivery))
        if held is None or (held.generation, held.member) != (delivery.generation, membership.member_id):
            raise LeaseLost(f"{delivery.place} is no longer held by this member of {self._group}")
        return held.progress

    async def has_committed(self, delivery: Delivery) -> bool:
        committed = await asyncio.to_thread(self._poller.committed, _place_of(delivery))
        return committed is not None and is_finished(delivery.offset, committed.offset, committed.metadata)

    # For the poller.

    def taken(self, place: Place, committed: Committed, member: str) -> None:
        if not self._closed:
            progress = Progress(committed.offset, committed.metadata)
            self._held[place] = _Partition(next(self._generations), member, progress)

    def revoked(self, places: Collection[Place], released: KafkaFuture) -> None:
        release = _Release(set(places), released)
        for place in places:
            if held := self._held.get(place):
                held.revoked = True
        self._releases.append(release)
        self._release_what_is_idle()
        if release in self._releases:
            asyncio.get_running_loop().call_later(self._handover_seconds, self._release_whatever_is_in_work, release)

    def lost(self, places: Collection[Place]) -> None:
        if places:
            log.warning("membership lost", group=self._group, partitions=len(places))
        for place in places:
            self._held.pop(place, None)
        self._release_what_is_idle()

    def read(self, batches: Sequence[Batch]) -> None:
        now = time.time()
        for batch in batches:
            if held := self._held.get(batch.place):
                for consumed in batch.consumed:
                    if held.progress.read(consumed.offset):
                        held.backlog.add(delivery_of(consumed, held.generation), now)
                held.progress.skip_to(batch.position)
        self._regulate()
        self._changed.set()

    def settled(self, place: Place, position: int, member: str) -> None:
        if (held := self._held.get(place)) and held.member == member:
            held.progress.settle(position)

    def failed(self, error: Exception) -> None:
        self._failure = as_missing_right(error)
        self._changed.set()

    def _hand_out(self, limit: int) -> list[Delivery]:
        now = time.time()
        handed: list[Delivery] = []
        # Those with the least in work first, so that one full partition does not starve the others.
        for held in sorted(self._held.values(), key=lambda held: len(held.in_flight)):
            held.backlog.ripen(now)
            while held.backlog and not held.revoked and len(handed) < limit:
                delivery = held.backlog.take()
                held.in_flight.add(delivery.offset)
                handed.append(delivery)
        self._regulate()
        return handed

    def _look_again(self) -> None:
        """Once for all that is finished together: hundreds in one transaction, over dozens of partitions."""
        if not self._looks_again:
            self._looks_again = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looks_again = False
        self._release_what_is_idle()
        self._regulate()

    def _regulate(self) -> None:
        """Pause what has been read enough of, go on with it when that is worked off, and settle what is all done."""
        due = sum(len(held.backlog) for held in self._held.values())
        if due >= _ENOUGH:
            self._full = True
        elif due <= _TOO_FEW:
            self._full = False
        self._poller.pause(
            frozenset(
                place
                for place, held in self._held.items()
                if self._full or held.revoked or held.backlog.is_full or held.progress.is_wide
            )
        )

        self._poller.settle(
            {place: held.progress.position for place, held in self._held.items() if held.progress.is_settled}
        )

    def _seconds_until_due(self) -> float:
        due_at = min((held.backlog.due_at for held in self._held.values() if not held.revoked), default=float("inf"))
        return min(max(due_at - time.time(), 0.0), _LONGEST_WAIT_SECONDS)

    def _release_what_is_idle(self) -> None:
        for release in list(self._releases):
            in_work = {place for place in release.places if (held := self._held.get(place)) and held.in_flight}
            for place in release.places - in_work:
                self._held.pop(place, None)
            release.places = in_work
            if not in_work:
                self._releases.remove(release)
                release.released.success(None)

    def _release_whatever_is_in_work(self, release: _Release) -> None:
        if release in self._releases:
            log.warning("work abandoned for a handover", group=self._group, partitions=len(release.places))
            for place in release.places:
                self._held.pop(place, None)
            self._release_what_is_idle()


def _place_of(delivery: Delivery) -> Place:
    return delivery.record.topic, delivery.partition
