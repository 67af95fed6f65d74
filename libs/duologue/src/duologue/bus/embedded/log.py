"""The file under the embedded log: its tables, its one thread, and reading and appending records."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from duologue.bus.record import Delivery, Record, check_size

T = TypeVar("T")

# How long a process waits for its turn to write.
_LOCK_SECONDS = 30.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS message (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    key TEXT NOT NULL, value BLOB NOT NULL, headers TEXT NOT NULL, not_before REAL NOT NULL, published_at REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS message_place ON message (topic, partition, "offset");
CREATE TABLE IF NOT EXISTS member (
    grp TEXT NOT NULL, id TEXT NOT NULL, topics TEXT NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (grp, id)
) STRICT;
CREATE TABLE IF NOT EXISTS cursor (
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    committed INTEGER NOT NULL, owner TEXT NOT NULL, generation INTEGER NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (grp, topic, partition)
) STRICT;
CREATE TABLE IF NOT EXISTS finished (
    grp TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    PRIMARY KEY (grp, topic, partition, "offset")
) STRICT, WITHOUT ROWID;
"""


@dataclass
class _Job:
    run: Callable[[sqlite3.Connection], Any]
    writes: bool
    future: Future[Any] = field(default_factory=Future)

    def resolve(self, result: Any, error: Exception | None) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class SqliteLog:
    """One connection in one thread. Writes that wait together share a transaction; reads see what is committed.

    A write must check before it changes anything: what it raises reaches its caller alone, and what it changed until
    then would stay.
    """

    def __init__(self, path: Path, partitions: int) -> None:
        self._path = path
        self._partitions = partitions
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="embedded-log", daemon=True)
        self._closed = False
        self.changed = asyncio.Event()

    @classmethod
    async def open(cls, path: Path, partitions: int) -> SqliteLog:
        log = cls(path, partitions)
        log._thread.start()
        await asyncio.wrap_future(log._opened)
        return log

    async def read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._submit(_Job(run, writes=False))
        return result

    async def write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        """Returns once the transaction is on disk, and wakes this process's subscriptions."""
        result: T = await self._submit(_Job(run, writes=True))
        self.changed.set()
        return result

    async def _submit(self, job: _Job) -> Any:
        if self._closed:
            raise RuntimeError("the embedded log is closed")
        self._jobs.put(job)
        return await asyncio.wrap_future(job.future)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=_LOCK_SECONDS)
            _prepare(connection, self._partitions)
        except Exception as error:  # the opener gets it
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        while (jobs := self._next_jobs()) is not None:
            writes = [job for job in jobs if job.writes]
            if writes:
                _run_writes(connection, writes)
            for job in jobs:
                if not job.writes:
                    job.resolve(*_attempt(connection, job))
        connection.close()

    def _next_jobs(self) -> list[_Job] | None:
        first = self._jobs.get()
        if first is None:
            return None
        jobs = [first]
        while not self._jobs.empty():
            following = self._jobs.get()
            if following is None:
                self._jobs.put(None)  # finish what came before the end
                break
            jobs.append(following)
        return jobs


def _prepare(connection: sqlite3.Connection, partitions: int) -> None:
    _switch_to_wal(connection)
    # FULL: a commit that was acknowledged survives a power cut, as it would on a broker with acks=all.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO setting VALUES ('partitions', ?)", (partitions,))
    connection.execute("COMMIT")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # Here SQLite heeds no timeout: of processes that open a new file at the same time, all but one may be refused.
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _attempt(connection: sqlite3.Connection, job: _Job) -> tuple[Any, Exception | None]:
    try:
        return job.run(connection), None
    except Exception as error:  # its caller gets it
        return None, error


def _run_writes(connection: sqlite3.Connection, jobs: list[_Job]) -> None:
    """All jobs in one transaction; nobody hears of success before it is committed."""
    broken = False
    outcomes: list[tuple[Any, Exception | None]] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            outcomes.append(_attempt(connection, job))
            if isinstance(outcomes[-1][1], sqlite3.Error):
                broken = True  # on a full disk SQLite has rolled back by itself: what ran now would run alone
                break
        if not broken:
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        outcomes = [(None, error)] * len(jobs)
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # then BEGIN fails next, and its callers hear of it
            connection.execute("ROLLBACK")
    if broken and len(jobs) > 1:  # one caller's bad record is not the others' failure: each for itself
        for job in jobs:
            _run_writes(connection, [job])
        return
    for job, (result, failure) in zip(jobs, outcomes, strict=True):
        job.resolve(result, failure)


def append(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    """Append records to their partitions, creating topics that are new."""
    now = time.time()
    following: dict[tuple[str, int], int] = {}
    rows = []
    for record in records:
        check_size(record)
        partition = zlib.crc32(record.key.encode()) % ensure_topic(connection, record.topic)
        place = (record.topic, partition)
        if place not in following:
            following[place] = end_of(connection, record.topic, partition)
        headers = json.dumps(record.headers, separators=(",", ":"))
        offset = following[place]
        rows.append((*place, offset, record.key, record.value, headers, record.not_before, now))
        following[place] += 1
    connection.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def ensure_topic(connection: sqlite3.Connection, topic: str) -> int:
    """The number of partitions of a topic, which is created where it is missing."""
    row = connection.execute("SELECT partitions FROM topic WHERE name = ?", (topic,)).fetchone()
    if row is None:
        row = connection.execute("SELECT value FROM setting WHERE name = 'partitions'").fetchone()
        connection.execute("INSERT INTO topic VALUES (?, ?)", (topic, row[0]))
    return int(row[0])


def end_of(connection: sqlite3.Connection, topic: str, partition: int) -> int:
    """The offset behind the last record of a partition."""
    row = connection.execute(
        'SELECT max("offset") FROM message WHERE topic = ? AND partition = ?', (topic, partition)
    ).fetchone()
    return 0 if row[0] is None else int(row[0]) + 1


def read_from(connection: sqlite3.Connection, topic: str, partition: int, offset: int, limit: int) -> list[Delivery]:
    """At most `limit` records of a partition, from `offset` on."""
    rows = connection.execute(
        'SELECT "offset", key, value, headers, not_before FROM message '
        'WHERE topic = ? AND partition = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?',
        (topic, partition, offset, limit),
    ).fetchall()
    return [
        Delivery(Record(topic, key, value, json.loads(headers), not_before), partition, at)
        for at, key, value, headers, not_before in rows
    ]
