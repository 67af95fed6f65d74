"""Consumer groups of the embedded log: who reads which partition, from where, and what is finished."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from duologue.bus.backlog import Backlog
from duologue.bus.embedded.log import SqliteLog, append, end_of, ensure_topic, read_from
from duologue.bus.record import Delivery, LeaseLost, Record
from duologue.bus.waiting import set_within

Place = tuple[str, int]

# Another process's records are seen by asking; this process's own wake the subscription at once.
_POLL_SECONDS = 0.02
_MAX_POLL_SECONDS = 0.1
_HEARTBEATS_PER_LEASE = 4


@dataclass
class _Partition:
    """A partition that this member holds: where it reads on, what it has read, and what it has handed out."""

    generation: int
    position: int
    skip: set[int]
    backlog: Backlog = field(default_factory=Backlog)
    in_flight: set[int] = field(default_factory=set)
    revoked: bool = False


class EmbeddedSubscription:
    """`Subscription` on the embedded log.

    Partitions are leased: a member renews its leases with each heartbeat, gives up what the group's size no longer
    grants it once that work is finished, and takes what is free. Every lease has a generation; `finish` compares it
    in the transaction that writes, so a member that was thought dead can't finish what another has taken over.
    """

    def __init__(self, log: SqliteLog, group: str, topics: tuple[str, ...], member: str, lease_seconds: float) -> None:
        self._log = log
        self._group = group
        self._topics = topics
        self._member = member
        self._lease_seconds = lease_seconds
        self._held: dict[Place, _Partition] = {}
        self._turns = 0
        self._closed = False
        self._heart: asyncio.Task[None] | None = None

    async def join(self) -> None:
        await self._heartbeat()
        self._heart = asyncio.create_task(self._beat(), name=f"heartbeat-{self._member}")

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        pause = _POLL_SECONDS
        while not self._closed:
            if self._heart is not None and self._heart.done():
                self._heart.result()  # without its heartbeat a member only pretends to be one
            # Another subscription of this process may clear the event too: that costs one poll, never a record.
            self._log.changed.clear()
            await self._log.read(lambda connection: self._read_ahead(connection, limit))
            # Nothing is awaited from here to the caller: a fetch that is given up leaves what was read to the next.
            if deliveries := self._hand_out(limit):
                return deliveries
            changed = await set_within(self._log.changed, pause)
            pause = _POLL_SECONDS if changed else min(pause * 1.5, _MAX_POLL_SECONDS)
        return []

    async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
        await self._log.write(lambda connection: self._finish(connection, delivery, outputs))
        held = self._held.get((delivery.record.topic, delivery.partition))
        if held is not None and held.generation == delivery.generation:
            held.in_flight.discard(delivery.offset)
            if held.revoked and not held.in_flight:
                await self._heartbeat()  # hand it over now rather than at the next beat

    async def lag(self) -> Mapping[str, int]:
        return await self._log.read(self._behind)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._log.changed.set()
        if self._heart is not None:
            self._heart.cancel()
        await self._log.write(self._leave)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / _HEARTBEATS_PER_LEASE)
            await self._heartbeat()

    async def _heartbeat(self) -> None:
        await self._log.write(self._renew)

    def _hand_out(self, limit: int) -> list[Delivery]:
        handed: list[Delivery] = []
        for held in list(self._held.values()):
            while held.backlog and not held.revoked and len(handed) < limit:
                delivery = held.backlog.take()
                held.in_flight.add(delivery.offset)
                handed.append(delivery)
        return handed

    # What follows runs in the log's thread, writes within a transaction.

    def _read_ahead(self, connection: sqlite3.Connection, limit: int) -> None:
        """Have `limit` records that are due in the backlogs, as far as there are any."""
        now = time.time()
        for held in self._held.values():
            held.backlog.ripen(now)
        wanted = limit - sum(len(held.backlog) for held in self._held.values() if not held.revoked)
        places = deque(self._held)
        self._turns += 1
        places.rotate(self._turns)  # so that one full partition does not starve the others
        for place in places:
            held = self._held[place]
            if not held.revoked and wanted > 0:
                wanted -= _read_on(connection, place, held, wanted, now)

    def _behind(self, connection: sqlite3.Connection) -> dict[str, int]:
        behind = dict.fromkeys(self._topics, 0)
        for topic, partition in self._held:
            (committed,) = connection.execute(
                "SELECT committed FROM cursor WHERE grp = ? AND topic = ? AND partition = ?",
                (self._group, topic, partition),
            ).fetchone()
            behind[topic] += end_of(connection, topic, partition) - committed
        return behind

    def _finish(self, connection: sqlite3.Connection, delivery: Delivery, outputs: Sequence[Record]) -> None:
        place = (self._group, delivery.record.topic, delivery.partition)
        row = connection.execute(
            "SELECT committed, owner, generation FROM cursor WHERE grp = ? AND topic = ? AND partition = ?", place
        ).fetchone()
        if row is None or (row[1], row[2]) != (self._member, delivery.generation):
            raise LeaseLost(f"{delivery.place} is no longer held by {self._member}")
        committed = row[0]
        if delivery.offset < committed or _is_finished(connection, place, delivery.offset):
            return  # a finish that is repeated has its outputs written already
        append(connection, outputs)
        if delivery.offset > committed:
            connection.execute("INSERT INTO finished VALUES (?, ?, ?, ?)", (*place, delivery.offset))
            return
        connection.execute(
            "UPDATE cursor SET committed = ? WHERE grp = ? AND topic = ? AND partition = ?",
            (_advance(connection, place, committed + 1), *place),
        )

    def _renew(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            return
        now = time.time()
        expires = now + self._lease_seconds
        connection.execute("DELETE FROM member WHERE grp = ? AND expires_at < ?", (self._group, now))
        connection.execute(
            "INSERT INTO member VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at",
            (self._group, self._member, json.dumps(self._topics), expires),
        )
        places = [(topic, p) for topic in self._topics for p in range(ensure_topic(connection, topic))]
        mine = self._share(connection, places)
        for place in places:
            if place in self._held:
                self._keep_or_release(connection, place, place in mine, expires)
            elif place in mine:
                self._acquire(connection, place, now, expires)

    def _share(self, connection: sqlite3.Connection, places: list[Place]) -> set[Place]:
        """The partitions that are this member's by right: every topic's are dealt out to the members in order."""
        rows = connection.execute("SELECT id, topics FROM member WHERE grp = ? ORDER BY id", (self._group,)).fetchall()
        mine: set[Place] = set()
        for topic, partition in places:
            members = [member for member, topics in rows if topic in json.loads(topics)]
            if members[partition % len(members)] == self._member:
                mine.add((topic, partition))
        return mine

    def _keep_or_release(self, connection: sqlite3.Connection, place: Place, wanted: bool, expires: float) -> None:
        held = self._held[place]
        held.revoked = not wanted
        release = held.revoked and not held.in_flight
        changed = connection.execute(
            "UPDATE cursor SET owner = ?, expires_at = ? "
            "WHERE grp = ? AND topic = ? AND partition = ? AND owner = ? AND generation = ?",
            ("" if release else self._member, expires, self._group, *place, self._member, held.generation),
        ).rowcount
        if release or not changed:  # given up, or taken by another while this process was away
            del self._held[place]

    def _acquire(self, connection: sqlite3.Connection, place: Place, now: float, expires: float) -> None:
        key = (self._group, *place)
        connection.execute("INSERT OR IGNORE INTO cursor VALUES (?, ?, ?, 0, '', 0, 0)", key)
        committed, owner, generation, lease = connection.execute(
            "SELECT committed, owner, generation, expires_at FROM cursor WHERE grp = ? AND topic = ? AND partition = ?",
            key,
        ).fetchone()
        if owner and lease > now:
            return
        connection.execute(
            "UPDATE cursor SET owner = ?, generation = ?, expires_at = ? WHERE grp = ? AND topic = ? AND partition = ?",
            (self._member, generation + 1, expires, *key),
        )
        finished = connection.execute(
            'SELECT "offset" FROM finished WHERE grp = ? AND topic = ? AND partition = ?', key
        ).fetchall()
        self._held[place] = _Partition(generation + 1, committed, {offset for (offset,) in finished})

    def _leave(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM member WHERE grp = ? AND id = ?", (self._group, self._member))
        connection.execute("UPDATE cursor SET owner = '' WHERE grp = ? AND owner = ?", (self._group, self._member))


def _read_on(connection: sqlite3.Connection, place: Place, held: _Partition, limit: int, now: float) -> int:
    """Read past what waits until `limit` more records of a partition are due in its backlog. How many are."""
    before = len(held.backlog)
    while (missing := limit - (len(held.backlog) - before)) > 0 and not held.backlog.is_full:
        deliveries = read_from(connection, *place, held.position, missing)
        for delivery in deliveries:
            held.position = delivery.offset + 1
            if delivery.offset in held.skip:
                held.skip.discard(delivery.offset)
            else:
                held.backlog.add(replace(delivery, generation=held.generation), now)
        if len(deliveries) < missing:
            break
    return len(held.backlog) - before


def _is_finished(connection: sqlite3.Connection, place: tuple[str, str, int], offset: int) -> bool:
    found = connection.execute(
        'SELECT 1 FROM finished WHERE grp = ? AND topic = ? AND partition = ? AND "offset" = ?', (*place, offset)
    )
    return found.fetchone() is not None


def _advance(connection: sqlite3.Connection, place: tuple[str, str, int], committed: int) -> int:
    """The lowest offset from `committed` on that is not finished; what is below it needs no row any more."""
    while connection.execute(
        'DELETE FROM finished WHERE grp = ? AND topic = ? AND partition = ? AND "offset" = ?', (*place, committed)
    ).rowcount:
        committed += 1
    return committed
