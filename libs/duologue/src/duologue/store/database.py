"""A SQL database: SQLite on a laptop, PostgreSQL in a cluster, by its URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, sessionmaker

from duologue.core.problems import WrongSetting

T = TypeVar("T")

_THREADS = 4


class Database:
    """Runs functions over a session, each in one transaction, in threads beside the event loop."""

    def __init__(self, url: str) -> None:
        """`url`: as SQLAlchemy takes it. Raises `WrongSetting` for one that it can't take.

        SQLite has one writer, so it gets one thread.
        """
        self.url = url
        self._engine = _engine(url)
        is_sqlite = self._engine.dialect.name == "sqlite"
        if is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._threads = ThreadPoolExecutor(1 if is_sqlite else _THREADS, thread_name_prefix="database")

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


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return create_engine(url, pool_pre_ping=not is_sqlite)
    except ModuleNotFoundError as error:
        raise WrongSetting(
            f"the database of setting database.url needs the Python package {error.name}: install it"
        ) from error
    except (ArgumentError, ValueError) as error:  # its message may show a password
        raise WrongSetting(
            "setting database.url is no database: use sqlite:///path or postgresql+psycopg://user@host/name"
        ) from error
    except OSError as error:
        raise WrongSetting(f"setting database.url: the folder of the database can't be made: {error}") from error


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
