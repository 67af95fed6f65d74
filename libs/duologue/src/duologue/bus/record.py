"""What travels on the bus, and what every bus does with it: the interface that tests/contract holds each backend to."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# What is larger belongs into the artifact store.
MOST_BYTES = 1_048_576
MOST_HEADER_BYTES = 65_536
# Twice the longest pause that settings allow between attempts, for clocks that differ.
LONGEST_WAIT_SECONDS = 172_800.0


@dataclass(frozen=True, slots=True)
class Record:
    """A message to publish. Records of a topic with one key keep their order.

    `not_before`: seconds since the epoch; no consumer is given the record earlier, and those behind it do not wait with
    it. 0: at once. So is what would wait for longer than `LONGEST_WAIT_SECONDS`: nobody of ours asks for that, and a
    record that never comes due would hold up its partition. Raises ValueError for a time that is none.
    """

    topic: str
    key: str
    value: bytes
    headers: dict[str, str] = field(default_factory=dict)
    not_before: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.not_before):
            raise ValueError(f"not_before is {self.not_before}: a record waits for a time in seconds since the epoch")


@dataclass(frozen=True, slots=True)
class Delivery:
    """A record as one member of a consumer group was given it."""

    record: Record
    partition: int
    offset: int
    generation: int = 0

    @property
    def place(self) -> str:
        return f"{self.record.topic}/{self.partition}/{self.offset}"


class LeaseLost(Exception):
    """The partition belongs to another member by now: what was to be finished was not, and will be delivered again."""


class RecordTooLarge(Exception):
    """A record is larger than a bus takes: `MOST_BYTES` of key and value, `MOST_HEADER_BYTES` of headers."""


def check_size(record: Record) -> None:
    """Raises `RecordTooLarge`. The same on every bus, so that what works on one machine works on a cluster."""
    size = len(record.key.encode()) + len(record.value)
    if size > MOST_BYTES:
        raise RecordTooLarge(f"a record for {record.topic} has {size:,} bytes, more than {MOST_BYTES:,}")
    headers = header_bytes(record.headers)
    if headers > MOST_HEADER_BYTES:
        raise RecordTooLarge(f"a record for {record.topic} has {headers:,} bytes of headers")


def header_bytes(headers: Mapping[str, str]) -> int:
    """How many bytes headers have, of the `MOST_HEADER_BYTES` that a record may have."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())


class Subscription(Protocol):
    """One member of a consumer group.

    Every record of the topics is delivered to some member of the group, again after a crash, until it is finished.
    Offsets are committed up to the lowest one that is not finished. A member that does not fetch loses nothing: it
    stays in the group and keeps its partitions.
    """

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """At least one delivery and at most `limit`; waits for the first. Empty once the subscription is closed."""
        ...

    async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
        """Publish `outputs` and mark the delivery as done: both or, with `LeaseLost`, neither. Durable on return."""
        ...

    async def lag(self) -> Mapping[str, int]:
        """How far this member is behind, by topic: offsets of the partitions that it holds, as of some seconds ago."""
        ...

    async def close(self) -> None:
        """Leave the group and give the partitions to the others."""
        ...


class Bus(Protocol):
    """Topics. Safe for concurrent use within one event loop; every process opens its own."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Durable when it returns: all of the records, or with an exception none."""
        ...

    async def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        """Join a consumer group. A new group begins at the oldest record."""
        ...

    def read(self, topic: str) -> AsyncIterator[Delivery]:
        """All records that the topic has now, oldest first by partition; no group is involved."""
        ...

    def follow(self, topic: str) -> AsyncGenerator[Sequence[Delivery], None]:
        """All records of the topic, for everyone who follows it; no group is involved.

        First all that the topic has now, together, which may be none; then without an end those that come, for as long
        as brokers are away nothing. Those of a key keep their order. After trouble records may be given again.
        """
        ...

    async def topics(self) -> Sequence[str]:
        """Names of the topics that exist."""
        ...

    async def lag(self, group: str, topic: str) -> int:
        """Records that the group has not committed."""
        ...

    async def close(self) -> None: ...
