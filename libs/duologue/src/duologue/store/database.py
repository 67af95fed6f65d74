"""A SQL database: SQLite on a laptop, PostgreSQL in a cluster, by its URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

T = TypeVar("T")


class Database:
    """Runs functions over a session, each in one transaction, in threads beside the event loop."""

    def __init__(self, url: str, threads: int = 4) -> None:
        """`url`: as SQLAlchemy takes it. SQLite has one writer, so it gets one thread whatever `threads` says."""
        self.url = url
        is_sqlite = make_url(url).get_backend_name() == "sqlite"
        if is_sqlite and (file := make_url(url).database):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(url, pool_pre_ping=not is_sqlite)
        if is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._threads = ThreadPoolExecutor(1 if is_sqlite else threads, thread_name_prefix="database")

    def migrate(self, migrations: Path) -> None:
        """Bring the schema up to the newest of the Alembic migrations in a folder."""
        config = Config()
        config.set_main_option("script_location", str(migrations))
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    async def run(self, work: Callable[[Session], T]) -> T:
        """What `work` returns, once its transaction is committed; rolled back when it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transact, work)

    def _transact(self, work: Callable[[Session], T]) -> T:
        with self._sessions.begin() as session:
            return work(session)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # left to itself, Python's driver begins before changes of rows only
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """From its first statement on a transaction sees no other's changes, and its DDL is undone with the rest."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
