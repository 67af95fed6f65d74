"""Ending work on records that were cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from duologue.bus.record import Record


class RecordCancelled(Exception):
    """Nobody wants any more what would come of the record."""


class InHand:
    """The records that a worker works on or is about to, each in a task of its own."""

    def __init__(self, is_cancelled: Callable[[Record], bool]) -> None:
        self._is_cancelled = is_cancelled
        self._tasks: dict[asyncio.Task[Any], Record] = {}

    @contextmanager
    def held(self, record: Record) -> Iterator[None]:
        """Raises `RecordCancelled` if the record is, at once, or out of what the block waits for when it comes to be.

        A task that was cancelled by others as well goes on being so: who stops a worker leaves its records to others.
        """
        if self._is_cancelled(record):
            raise RecordCancelled
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only the work of a task can be ended")
        self._tasks[task] = record
        try:
            yield
        finally:
            was_dropped = self._tasks.pop(task, None) is None
            if was_dropped and not task.uncancel():
                raise RecordCancelled

    def drop_cancelled(self) -> None:
        """End the work on what is cancelled by now."""
        for task, record in [*self._tasks.items()]:
            if self._is_cancelled(record):
                del self._tasks[task]
                task.cancel()
