"""The thread that a consumer lives in: it polls without a pause, so that the group hears of it whatever is in work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.future import Future as KafkaFuture
from kafka.structs import MemberState
from prometheus_client import Counter

log = structlog.get_logger(__name__)

_OVERTAKEN = Counter(
    "duologue_records_overtaken_total", "Records deleted by retention before a group had read them.", ("topic", "group")
)

Place = tuple[str, int]

_POLL_SECONDS = 0.1
_MOST_AT_ONCE = 500
_ANSWER_MS = 5000
# Between two looks at where the partitions end.
_LOOK_SECONDS = 5.0
# A consumer that can't poll for so long is at its end.
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Committed:
    """What a group has committed for a partition."""

    offset: int
    metadata: str


@dataclass(frozen=True)
class Batch:
    """What one poll gave of a partition. `position` is where reading goes on, past what nobody is to see."""

    place: Place
    consumed: Sequence[Any]
    position: int


class Holder(Protocol):
    """Who works with what is read. All is called in the event loop, in the order in which it happened."""

    def taken(self, place: Place, committed: Committed, member: str) -> None:
        """The partition is that member's now; its records follow, from the committed offset on."""
        ...

    def revoked(self, places: Collection[Place], released: KafkaFuture) -> None:
        """The partitions go to others as soon as `released` is."""
        ...

    def lost(self, places: Collection[Place]) -> None:
        """The partitions went to others: the group took the member for dead."""
        ...

    def read(self, batches: Sequence[Batch]) -> None: ...

    def settled(self, place: Place, position: int, member: str) -> None:
        """The position was committed, as `settle` asked for."""
        ...

    def failed(self, error: Exception) -> None:
        """The consumer can't go on."""
        ...


class Poller:
    """A consumer and its thread."""

    def __init__(self, consumer: KafkaConsumer, group: str, topics: Sequence[str], holder: Holder) -> None:
        self._consumer = consumer
        self._group = group
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._member = ""
        # Assigned and not begun with; held by us, as the holder was told; about to go to others.
        self._assigned: set[TopicPartition] = set()
        self._held: set[TopicPartition] = set()
        self._going: set[TopicPartition] = set()
        self._lock = threading.Lock()  # of these three, and of telling the loop about them
        self._positions: dict[TopicPartition, int] = {}
        self._paused: frozenset[Place] = frozenset()
        self._settled: Mapping[Place, int] = {}
        self._ends: Mapping[TopicPartition, int] = {}
        self._look_at = 0.0
        self._polled_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"kafka-poll-{group}", daemon=True)
        consumer.subscribe(list(topics), listener=_Listener(self))

    def start(self) -> None:
        self._thread.start()

    def pause(self, places: frozenset[Place]) -> None:
        """Read nothing more of these partitions and go on with all others. They stay the member's."""
        self._paused = places

    def settle(self, positions: Mapping[Place, int]) -> None:
        """Commit these positions, unless more is read by then: no record is left to do it in the name of.

        Behind the last record there may be the end of a transaction, and who watches the lag takes it for work.
        """
        self._settled = positions

    @property
    def membership(self) -> Any:
        """The member and its generation, by which the broker tells whether what is written in its name still counts."""
        return self._consumer.group_metadata()

    def committed(self, place: Place) -> Committed | None:
        """What the group has committed; asks the broker, from any thread. Raises KafkaError."""
        found = self._consumer.committed(TopicPartition(*place), metadata=True, timeout_ms=_ANSWER_MS)
        return None if found is None else Committed(found.offset, found.metadata)

    def end_of(self, place: Place) -> int | None:
        """The offset behind the last record that may be read, as of some seconds ago; None where it is not known."""
        return self._ends.get(TopicPartition(*place))

    async def close(self) -> None:
        """Leave the group."""
        self._stopping.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._poll()
        except Exception as error:  # whoever fetches gets it
            self._tell(self._holder.failed, error)
        finally:
            self._consumer.close(autocommit=False)

    def _poll(self) -> None:
        self._keep_joining()
        self._take_what_is_assigned()
        self._apply_pauses()
        self._commit_settled()
        self._look_at_ends()
        before = frozenset(self._held)
        try:
            consumed = self._consumer.poll(timeout_ms=int(_POLL_SECONDS * 1000), max_records=_MOST_AT_ONCE)
        except NoOffsetForPartitionError:  # assigned a moment ago, of a new group
            return
        except OffsetOutOfRangeError as error:
            self._go_on_behind_the_gap(error.args[0])
            return
        except KafkaError as error:
            self._bear(error)
            return
        self._polled_at = time.monotonic()
        self._see_who_we_are()
        # What was read of a partition before we began with it is read again then.
        if batches := [*self._batches_of(consumed, before & self._held)]:
            self._tell(self._holder.read, batches)

    def _bear(self, error: KafkaError) -> None:
        """Raises an error that does not pass; of one that may, after a while: a new consumer may do better."""
        if not error.retriable or time.monotonic() > self._polled_at + _PATIENCE_SECONDS:
            raise error
        log.warning("not polled, trying again", group=self._group, reason=f"{type(error).__name__}: {error}")
        self._stopping.wait(_POLL_SECONDS)

    def _keep_joining(self) -> None:
        """A join that kafka-python 3.0.12 begins for new partitions of a topic it forgets, if it outlasts a poll.

        From then on it sends no heartbeats, until it is put out of the group, and polls without a pause.
        """
        if self.membership.state is MemberState.REBALANCING:
            self._consumer._coordinator.request_rejoin()

    def _batches_of(
        self, consumed: Mapping[TopicPartition, Sequence[Any]], held: Collection[TopicPartition]
    ) -> Iterator[Batch]:
        """What was read of what is held; without records where only the position went on."""
        for partition in held:
            records = consumed.get(partition, ())
            position = records[-1].offset + 1 if records else self._position(partition)
            if position is not None and position != self._positions.get(partition):
                self._positions[partition] = position
                yield Batch(_place(partition), records, position)

    def _position(self, partition: TopicPartition) -> int | None:
        """Where reading goes on; None while that is not known, as for a partition that was just handed over."""
        try:
            position: int | None = self._consumer.position(partition, timeout_ms=0)
        except (IllegalStateError, NoOffsetForPartitionError):
            return None
        return position

    def _see_who_we_are(self) -> None:
        """A member that was thought dead may come back as another with the same partitions, and nobody tells it."""
        member = self.membership.member_id
        if member != self._member:
            self._member = member
            self._give_up(list(self._held), self._holder.lost)
            self._begin_with(self._consumer.assignment() - self._going)

    def _take_what_is_assigned(self) -> None:
        """Begin with what was assigned, at what the group has committed."""
        self._see_who_we_are()
        for partition in frozenset(self._assigned):
            try:
                committed = self._committed_or_first(partition)
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.debug("not begun with", topic=partition.topic, partition=partition.partition, reason=str(error))
                return
            with self._lock:
                if partition not in self._assigned or not self._seek(partition, committed.offset):
                    continue
                self._assigned.discard(partition)
                self._held.add(partition)
                self._positions[partition] = committed.offset
                self._tell(self._holder.taken, _place(partition), committed, self._member)

    def _committed_or_first(self, partition: TopicPartition) -> Committed:
        committed = self.committed(_place(partition))
        if committed is None:  # a new group
            return Committed(self._consumer.beginning_offsets([partition])[partition], "")
        return committed

    def _seek(self, partition: TopicPartition, offset: int) -> bool:
        """False when the partition was taken from us."""
        try:
            self._consumer.seek(partition, offset)
        except (ValueError, KeyError):
            return False
        return True

    def _go_on_behind_the_gap(self, positions: Mapping[TopicPartition, int]) -> None:
        beginnings = self._consumer.beginning_offsets(list(positions))
        for partition, position in positions.items():
            if partition not in self._held or self._position(partition) != position:
                continue  # said of a fetch of before, or before we began with it
            gone = max(beginnings[partition] - position, 0)
            _OVERTAKEN.labels(partition.topic, self._group).inc(gone)
            place = f"{partition.topic}/{partition.partition}"
            log.error("retention overtook the group", group=self._group, place=place, offsets=gone)
            self._consumer.seek(partition, beginnings[partition])

    def _apply_pauses(self) -> None:
        held = self._consumer.assignment()
        wanted = {partition for partition in held if _place(partition) in self._paused}
        paused = self._consumer.paused()
        self._consumer.pause(*(wanted - paused))
        self._consumer.resume(*(held & paused - wanted))

    def _commit_settled(self) -> None:
        """Between two polls: what has been read by now is all that will be until this is done."""
        for place, position in self._settled.items():
            partition = TopicPartition(*place)
            if partition not in self._held or self._position(partition) != position:
                continue
            try:
                self._consumer.commit({partition: OffsetAndMetadata(position)}, timeout_ms=_ANSWER_MS)
            except KafkaError as error:  # another time
                log.debug("not settled", topic=place[0], partition=place[1], reason=str(error))
            else:
                self._tell(self._holder.settled, place, position, self._member)
        self._settled = {}

    def _look_at_ends(self) -> None:
        """The fetches of what is paused, as while models are slow, would not tell."""
        now = time.monotonic()
        if now < self._look_at or not self._held:
            return
        self._look_at = now + _LOOK_SECONDS
        try:
            self._ends = self._consumer.end_offsets(list(self._held), timeout_ms=_ANSWER_MS)
        except KafkaError as error:  # another time
            log.debug("ends not known", group=self._group, reason=str(error))

    def _begin_with(self, partitions: Collection[TopicPartition]) -> None:
        with self._lock:
            self._assigned.update(partitions)

    async def _hand_over(self, partitions: Collection[TopicPartition]) -> None:
        """Return when the holder has released them."""
        released = KafkaFuture()
        self._going.update(partitions)
        self._give_up(partitions, self._holder.revoked, released)
        try:
            await released
        finally:
            self._going.difference_update(partitions)

    def _give_up(self, partitions: Collection[TopicPartition], call: Any, *arguments: Any) -> None:
        with self._lock:
            self._assigned.difference_update(partitions)
            self._held.difference_update(partitions)
            self._tell(call, [_place(partition) for partition in partitions], *arguments)

    def _tell(self, call: Any, *arguments: Any) -> None:
        """Call the holder in the event loop, from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)


class _Listener(AsyncConsumerRebalanceListener):
    """Runs in the consumer's own I/O thread, where heartbeats go on while it waits."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._poller._hand_over(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._poller._begin_with(assigned)

    async def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self._poller._give_up(lost, self._poller._holder.lost)


def _place(partition: TopicPartition) -> Place:
    return partition.topic, partition.partition
