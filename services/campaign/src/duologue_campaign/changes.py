"""Telling those who watch that something changed."""

from __future__ import annotations

import asyncio

from duologue.bus.waiting import set_within


class Changes:
    """Wakes all watchers at once. A watcher that comes late has missed nothing that the database does not hold."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next change, for `seconds` at most."""
        await set_within(self._event, seconds)
