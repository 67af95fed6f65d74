"""Transactions that meet, as those of two replicas do on PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from duologue.store import Database
from tests.support.eventually import eventually

_PATIENCE_SECONDS = 30.0
# Schemas share the server with those of other tests, but no two tests run at once.
_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


@asynccontextmanager
async def held(url: str, work: Callable[[Session], Any]) -> AsyncIterator[None]:
    """Another process's transaction that has done `work`, and is committed at the end of the block."""
    database = Database(url)
    done, release = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        try:
            work(session)
            session.flush()
        finally:
            done.set()
        release.wait(_PATIENCE_SECONDS)

    holding = asyncio.create_task(database.run(hold))
    try:
        await asyncio.to_thread(done.wait, _PATIENCE_SECONDS)
        yield
    finally:
        release.set()
        await holding
        await database.close()


async def waits(database: Database, count: int = 1) -> None:
    """Until so many transactions wait for another to end."""

    async def waiting() -> bool:
        return bool(await database.run(lambda session: session.scalar(_WAITING) >= count))

    await eventually(waiting, f"{count} transactions wait for a lock")
