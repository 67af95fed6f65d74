"""The embedded log: topics in one SQLite file, shared by the processes of one machine.

It keeps the promises of a broker (partitions, consumer groups, redelivery, durability) at the scale of a laptop. All
statements of a process run in one thread; what waits there is written in one transaction, so that a hundred
concurrent publishers cost one fsync. SQLite's write lock makes the processes take turns; one that is stopped (SIGSTOP)
within its turn holds up all.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from duologue.bus.embedded.group import EmbeddedSubscription
from duologue.bus.embedded.log import SqliteLog, append, read_from
from duologue.bus.record import Delivery, Record

_READ_AHEAD = 256
# How soon those who follow a topic hear of what other processes wrote.
_FOLLOW_SECONDS = 0.1


class EmbeddedBus:
    """`Bus` on SQLite. Open one per process with `open`; forked processes must open their own."""

    def __init__(self, log: SqliteLog, lease_seconds: float) -> None:
        self._log = log
        self._lease_seconds = lease_seconds
        self._subscriptions: list[EmbeddedSubscription] = []

    @classmethod
    async def open(cls, path: Path, *, partitions: int = 8, lease_seconds: float = 10.0) -> EmbeddedBus:
        """Open or create the log at `path`.

        `partitions` of topics that are new; a member that is not heard of for `lease_seconds` loses its partitions.
        """
        return cls(await SqliteLog.open(path, partitions), lease_seconds)

    async def publish(self, records: Sequence[Record]) -> None:
        if records:
            await self._log.write(lambda connection: append(connection, records))

    async def subscribe(self, group: str, topics: Sequence[str]) -> EmbeddedSubscription:
        member = f"{group}-{uuid.uuid4().hex[:12]}"
        subscription = EmbeddedSubscription(self._log, group, tuple(topics), member, self._lease_seconds)
        await subscription.join()
        self._subscriptions.append(subscription)
        return subscription

    async def read(self, topic: str) -> AsyncIterator[Delivery]:
        partitions = await self._log.read(lambda connection: _partitions(connection, topic))
        for partition in range(partitions):
            offset = 0
            while True:
                batch = await self._log.read(
                    lambda connection, partition=partition, offset=offset: read_from(  # type: ignore[misc]
                        connection, topic, partition, offset, _READ_AHEAD
                    )
                )
                for delivery in batch:
                    yield delivery
                if len(batch) < _READ_AHEAD:
                    break
                offset = batch[-1].offset + 1

    async def follow(self, topic: str) -> AsyncGenerator[Sequence[Delivery], None]:
        positions: defaultdict[int, int] = defaultdict(int)
        yield await self._log.read(lambda connection: _read_on(connection, topic, positions))
        while True:
            if came := await self._log.read(lambda connection: _read_on(connection, topic, positions)):
                yield came
            else:
                await asyncio.sleep(_FOLLOW_SECONDS)

    async def topics(self) -> Sequence[str]:
        rows = await self._log.read(lambda connection: connection.execute("SELECT name FROM topic").fetchall())
        return sorted(name for (name,) in rows)

    async def lag(self, group: str, topic: str) -> int:
        def count(connection: sqlite3.Connection) -> Any:
            return connection.execute(
                "SELECT count(*) FROM message m LEFT JOIN cursor c "
                "ON c.grp = ? AND c.topic = m.topic AND c.partition = m.partition "
                'WHERE m.topic = ? AND m."offset" >= coalesce(c.committed, 0)',
                (group, topic),
            ).fetchone()[0]

        return int(await self._log.read(count))

    async def close(self) -> None:
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        await self._log.close()


def _partitions(connection: sqlite3.Connection, topic: str) -> int:
    row = connection.execute("SELECT partitions FROM topic WHERE name = ?", (topic,)).fetchone()
    return int(row[0]) if row else 0


def _read_on(connection: sqlite3.Connection, topic: str, positions: defaultdict[int, int]) -> list[Delivery]:
    """What the partitions have from their positions on, which are moved behind it."""
    found: list[Delivery] = []
    for partition in range(_partitions(connection, topic)):
        while batch := read_from(connection, topic, partition, positions[partition], _READ_AHEAD):
            positions[partition] = batch[-1].offset + 1
            found += batch
    return found
