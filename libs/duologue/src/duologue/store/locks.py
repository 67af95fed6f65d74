"""Locks by a name, where no row stands for what must not be done twice at once."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

# Of PostgreSQL's advisory locks, which are numbers: one for each name in each schema of a database.
LOCK_KEY: Final = "hashtextextended('duologue/' || current_schema() || '/' || :name, 0)"


def lock_name(transaction: Session | Connection, name: str) -> None:
    """Until the transaction ends no other that asks for the same name goes on. On SQLite none runs beside it anyway."""
    bind = transaction.get_bind() if isinstance(transaction, Session) else transaction
    if bind.dialect.name == "postgresql":
        transaction.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_KEY})"), {"name": name})
