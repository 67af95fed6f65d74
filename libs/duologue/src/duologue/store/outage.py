"""Errors of the database by what should happen next, not by which driver raised them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from duologue.core.problems import InvalidInput, Problem

_SQLITE_PRIMARY = 0xFF


class DatabaseUnavailable(Exception):
    """The database does not answer, or not now, as the message says; the same may go well later."""


@contextmanager
def outages() -> Iterator[None]:
    """Turns what the database does not do now into `DatabaseUnavailable`, and what it never will into `InvalidInput`.

    A transaction that an outage interrupts in its commit may have been committed: what is tried again must bear that.
    """
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable("all connections of the pool were in use for too long") from error
    except DataError as error:  # PostgreSQL is stricter than SQLite: no NUL in a text, and lengths hold
        raise InvalidInput([Problem("a value", 0, f"can't be stored: {_reason(error)}")]) from error
    except DBAPIError as error:
        if not _may_pass(error):
            raise
        raise DatabaseUnavailable(_reason(error)) from error


def _may_pass(error: DBAPIError) -> bool:
    """Lost connections, a server that starts or stops, its limits and timeouts, deadlocks, a full or busy disk."""
    if error.connection_invalidated or isinstance(error, InterfaceError):
        return True
    if not isinstance(error, OperationalError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    # SQLite calls statements that are wrong operational errors too.
    return code is None or code & _SQLITE_PRIMARY != sqlite3.SQLITE_ERROR


def _reason(error: DBAPIError) -> str:
    """In one line, without the statement."""
    return " ".join(str(error.orig).split())
