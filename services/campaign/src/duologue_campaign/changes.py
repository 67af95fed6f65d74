"""Telling those who watch that something changed."""

from __future__ import annotations

import asyncio
import contextlib


class Changes:
    """Wakes all watchers at once. A watcher that comes late has missed nothing that the database does not hold."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next change, for `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # before 3.12 wait_for may swallow the cancellation
                await self._event.wait()
