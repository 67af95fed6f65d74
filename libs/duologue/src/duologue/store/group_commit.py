"""Many small writes in one transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.orm import Session

from duologue.store.database import Database
from duologue.store.outage import DatabaseUnavailable

T = TypeVar("T")

_MOST_TOGETHER = 500


class GroupCommit(Generic[T]):
    """Writes what comes while a transaction is under way in the next one, all together: a commit waits for the disk."""

    def __init__(self, database: Database, write: Callable[[Session, Sequence[T]], None]) -> None:
        """`write` puts items into a session; it may be called again with some of them after it raised."""
        self._database = database
        self._write = write
        self._waiting: deque[tuple[T, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Returns once the item is committed. Raises what `write` raises of it, and `DatabaseUnavailable`."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="group-commit")
        await done

    async def _run(self) -> None:
        while self._waiting:
            together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_TOGETHER))]
            try:
                await self._commit(together)
            except DatabaseUnavailable as error:
                _fail(together, error)
            except Exception:  # one of them, which should not cost the others
                await self._commit_one_by_one(together)

    async def _commit_one_by_one(self, together: Sequence[tuple[T, asyncio.Future[None]]]) -> None:
        for one in together:
            try:
                await self._commit([one])
            except Exception as error:  # the caller gets it
                _fail([one], error)

    async def _commit(self, together: Sequence[tuple[T, asyncio.Future[None]]]) -> None:
        items = [item for item, _ in together]
        await self._database.run(lambda session: self._write(session, items))
        for _, done in together:
            if not done.done():
                done.set_result(None)


def _fail(together: Sequence[tuple[T, asyncio.Future[None]]], error: Exception) -> None:
    for _, done in together:
        if not done.done():
            done.set_exception(error)
