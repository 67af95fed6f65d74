"""Rows that may be written twice, and are there once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session


def insert_once(session: Session, table: type[DeclarativeBase], **values: Any) -> bool:
    """Insert a row, unless there is one that it would collide with. True when it was inserted.

    Where another transaction has inserted such a row and is not over, this one waits for it. To look first and insert
    then, as one may on SQLite, would fail there.
    """
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(literal(1))
    return session.execute(statement).first() is not None
