"""Rows that may be written twice, and are there once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Session


def insert_once(session: Session, table: type[DeclarativeBase], **values: Any) -> bool:
    """Insert a row, unless there is one that it would collide with. True when it was inserted.

    Where another transaction has inserted such a row and is not over, this one waits for it. To look first and insert
    then, as one may on SQLite, would fail there.
    """
    statement = _insert(session)(table).values(**values).on_conflict_do_nothing().returning(literal(1))
    return session.execute(statement).first() is not None


def insert_all_once(session: Session, table: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows that collide with none; the same row may be among them twice.

    Rows of several transactions at once are best in the same order, so that none waits for one that waits for it.
    """
    if rows:
        session.execute(_insert(session)(table).on_conflict_do_nothing(), rows)


def add_up(
    session: Session, table: type[DeclarativeBase], rows: Sequence[Mapping[str, Any]], figures: Sequence[str]
) -> None:
    """Insert rows, or add their `figures` to those of the row that has the same primary key."""
    target = table.__table__
    statement = _insert(session)(target)
    sums = {name: target.c[name] + statement.excluded[name] for name in figures}
    session.execute(statement.on_conflict_do_update(index_elements=list(target.primary_key), set_=sums), rows)


def _insert(session: Session) -> Any:
    return postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
