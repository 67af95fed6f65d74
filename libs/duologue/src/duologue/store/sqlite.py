"""SQLite: one file, one writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event


def sqlite_engine(url: URL) -> Engine:
    """Raises OSError when the folder of the file can't be made."""
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # left to itself, Python's driver begins before changes of rows only
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA busy_timeout = 30000")
    cursor.close()


def _begin(connection: Connection) -> None:
    """From its first statement on a transaction sees no other's changes, and its DDL is undone with the rest."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
