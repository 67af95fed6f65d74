"""A SQL database: SQLite on a laptop, PostgreSQL in a cluster, by its URL."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import count
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from duologue.bus import RetryPolicy
from duologue.core.problems import WrongSetting
from duologue.store.migrations import upgrade
from duologue.store.options import DatabaseOptions
from duologue.store.outage import DatabaseUnavailable, outages
from duologue.store.postgresql import pooled_engine, single_engine
from duologue.store.sqlite import sqlite_engine

log = structlog.get_logger(__name__)

T = TypeVar("T")

_START = RetryPolicy(first=0.5, longest=5.0)
_POSTGRESQL = "postgresql+psycopg"
_KINDS = "use sqlite:///path or postgresql+psycopg://user@host/name"


class Database:
    """Runs functions over a session, each in one transaction, in threads beside the event loop.

    Raises `DatabaseUnavailable` where the database does not answer, and `InvalidInput` for a value that it can't hold.
    """

    def __init__(self, url: str, options: DatabaseOptions | None = None) -> None:
        """Connects to nothing yet. Raises `WrongSetting` for a URL that is none.

        SQLite has one writer, so it gets one thread.
        """
        self.url = url
        self._options = options or DatabaseOptions()
        self._parsed = _parsed(url)
        self._engine = pooled_engine(self._parsed, self._options) if self.is_shared else _sqlite(self._parsed)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        threads = self._options.pool_size if self.is_shared else 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="database")

    @property
    def is_shared(self) -> bool:
        """Whether other processes of the service may be at work on it too."""
        return self._parsed.drivername == _POSTGRESQL

    async def migrate(self, migrations: Path) -> None:
        """Bring the schema up to the newest of the Alembic migrations in a folder; one process does at a time.

        Waits `start_seconds` for a database that is not there. Raises `WrongSetting` for one that can't be brought up.
        """
        deadline = time.monotonic() + self._options.start_seconds
        for attempt in count(1):
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self._upgrade, migrations)
                break
            except DatabaseUnavailable as error:
                pause = _START.delay(attempt, random.random())
                if time.monotonic() + pause > deadline:
                    waited = f"after {self._options.start_seconds:g} seconds (setting database.start_seconds)"
                    raise DatabaseUnavailable(
                        f"the database of setting database.url does not answer {waited}: {error}"
                    ) from error
                log.warning("waits for the database", again_in=round(pause, 1), reason=str(error))
                await asyncio.sleep(pause)

    async def run(self, work: Callable[[Session], T]) -> T:
        """What `work` returns, once its transaction is committed; rolled back when it raises.

        It knows whose it is: what it logs and what it says on topics belongs to the same trace.
        """
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, self._transact, work)

    def connect_alone(self, settings: Mapping[str, int], answer_seconds: float) -> Connection:
        """A connection to PostgreSQL beside the pool, in autocommit, each statement to be answered within a time.

        Blocks. `settings` are the server's for this session.
        """
        engine = single_engine(self._parsed, self._options, settings, answer_seconds)
        with outages():
            return engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        self._engine.dispose()

    def _transact(self, work: Callable[[Session], T]) -> T:
        with outages(), self._sessions.begin() as session:
            return work(session)

    def _upgrade(self, migrations: Path) -> None:
        # A migration may take longer than any other statement, and waits for that of another process.
        engine = single_engine(self._parsed, self._options) if self.is_shared else self._engine
        with outages(), engine.begin() as connection:
            upgrade(connection, migrations)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):  # as operators for Kubernetes write it into their secrets
            parsed = parsed.set(drivername=_POSTGRESQL)
    except (ArgumentError, ValueError) as error:  # its message may show a password
        raise WrongSetting(f"setting database.url is no database: {_KINDS}") from error
    if parsed.drivername not in ("sqlite", _POSTGRESQL):
        raise WrongSetting(f"setting database.url is no database that Duologue knows: {_KINDS}")
    return parsed


def _sqlite(url: URL) -> Engine:
    try:
        return sqlite_engine(url)
    except OSError as error:
        raise WrongSetting(f"setting database.url: the folder of the database can't be made: {error}") from error
