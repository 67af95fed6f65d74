"""Waiting for an event, but not for ever."""

from __future__ import annotations

import asyncio


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set, or was within `seconds`."""
    try:
        async with asyncio.timeout(seconds):  # before 3.12 wait_for may swallow the cancellation
            await event.wait()
    except TimeoutError:
        return False
    return True
