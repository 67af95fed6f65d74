"""What a database and an artifact store may be told beside their URLs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatabaseOptions:
    """Limits towards PostgreSQL; SQLite has one connection and none of these, but `start_seconds`.

    `pool_size`: transactions at once, each a connection and a thread. `connection_seconds`: for a connection to be
    made, or to come free. `statement_seconds`: for one statement. `start_seconds`: for a database that is not there at
    the start.
    """

    pool_size: int = 4
    connection_seconds: int = 10
    statement_seconds: float = 30.0
    start_seconds: float = 60.0


@dataclass(frozen=True)
class S3Options:
    """Where S3 is, and how buckets are named to it; empty: as the AWS SDK finds out by itself."""

    endpoint_url: str = ""
    region: str = ""
    path_style: bool = False
