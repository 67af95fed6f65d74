"""Telling an outage from a record's own trouble."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from duologue.bus.retry import RetryPolicy
from duologue.bus.waiting import set_within

log = structlog.get_logger(__name__)

# Different records that fail one after the other, with none that goes well between them.
_FAILURES = 5


class CircuitBreaker:
    """Opens when `_FAILURES` records in a row failed with what may pass, and closes with the next that goes well.

    While it is open, records wait for `admit`, which lets one go at a time, after pauses that grow as `pauses` says.
    """

    def __init__(
        self, pauses: RetryPolicy, wait: Callable[[asyncio.Event, float], Awaitable[bool]] = set_within
    ) -> None:
        """`wait` returns when the event is set, or after so many seconds."""
        self._pauses = pauses
        self._wait = wait
        self._failed: set[str] = set()
        self._trials = 0
        self._one_at_a_time = asyncio.Lock()
        self._passable = asyncio.Event()
        self._passable.set()
        self._stopped = False

    @property
    def is_open(self) -> bool:
        return len(self._failed) >= _FAILURES

    async def admit(self) -> bool:
        """Returns when the record may be tried; False when it must not, because the worker stops while it waits."""
        if self.is_open:
            async with self._one_at_a_time:
                if not await self._wait(self._passable, self._pauses.delay(self._trials + 1, random.random())):
                    self._trials += 1
        return not (self.is_open and self._stopped)

    def succeed(self) -> None:
        """A record went well."""
        if self.is_open:
            log.info("intake goes on", trials=self._trials)
        self._failed.clear()
        self._trials = 0
        self._passable.set()

    def fail(self, record: str, reason: str) -> None:
        """`record`: what tells it from others, over all its attempts."""
        if self.is_open or self._stopped:
            return
        self._failed.add(record)
        if self.is_open:
            log.warning("intake waits: records fail one after the other", records=_FAILURES, reason=reason)
            self._passable.clear()

    def stop(self) -> None:
        """Whoever waits is not admitted any more."""
        self._stopped = True
        self._passable.set()
