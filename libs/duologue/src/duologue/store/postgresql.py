"""PostgreSQL: connections that notice when nobody answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Engine, NullPool, create_engine, event

from duologue.store.options import DatabaseOptions

# A server whose machine or network is gone is noticed within a minute, in seconds and, the last, milliseconds. What the
# URL says holds instead.
_KEEPALIVES = {
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "fallback_application_name": "duologue",
}
# The server gets to say itself that a statement took too long.
_GRACE_SECONDS = 5.0
# A process that stands still in the middle of a transaction holds up all others at its rows for no longer.
_IDLE_IN_TRANSACTION_SECONDS = 60.0


class PatientConnection(psycopg.Connection[Any]):
    """Waits for each answer `answer_seconds` at most, then closes itself.

    A statement's timeout is the server's to keep. One that stands still, for its disk does, keeps none, and its kernel
    goes on to answer keepalives.
    """

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        limit = self.answer_seconds if timeout is None else timeout
        began = time.monotonic()
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError as error:
            if limit is None or time.monotonic() < began + limit:
                raise
            self.close()
            raise psycopg.OperationalError(f"the server did not answer within {limit:g} seconds") from error


def pooled_engine(url: URL, options: DatabaseOptions) -> Engine:
    """For transactions, `pool_size` of them at once. A connection that is dead is found out before it is used."""
    engine = create_engine(
        url,
        pool_size=options.pool_size,
        max_overflow=0,
        pool_timeout=options.connection_seconds,
        pool_pre_ping=True,
    )
    settings = {
        "statement_timeout": _milliseconds(options.statement_seconds),
        "idle_in_transaction_session_timeout": _milliseconds(_IDLE_IN_TRANSACTION_SECONDS),
        "jit": 0,  # to compile a statement takes longer than any of ours runs
    }
    _connect_patiently(engine, options, settings, options.statement_seconds + _GRACE_SECONDS)
    return engine


def single_engine(
    url: URL,
    options: DatabaseOptions,
    settings: Mapping[str, int] | None = None,
    answer_seconds: float | None = None,
) -> Engine:
    """For a connection beside the pool; `settings` are the server's for its session."""
    engine = create_engine(url, poolclass=NullPool)
    _connect_patiently(engine, options, settings or {}, answer_seconds)
    return engine


def _connect_patiently(
    engine: Engine, options: DatabaseOptions, settings: Mapping[str, int], answer_seconds: float | None
) -> None:
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())

    def connect(_dialect: Any, _record: Any, arguments: tuple[Any, ...], parameters: dict[str, Any]) -> Any:
        wanted = {**_KEEPALIVES, "connect_timeout": options.connection_seconds, **parameters}
        wanted["options"] = f"{ours} {parameters.get('options', '')}".strip()
        connection = PatientConnection.connect(*arguments, **wanted)
        connection.answer_seconds = answer_seconds
        return connection

    event.listen(engine, "do_connect", connect)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
