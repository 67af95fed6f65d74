"""Waiting for an event with a limit: it says which of the two came, and can be stopped."""

from __future__ import annotations

import asyncio

import pytest

from duologue.bus.waiting import set_within


async def test_an_event_that_is_set_is_not_waited_for() -> None:
    event = asyncio.Event()
    event.set()
    assert await set_within(event, 3600)


async def test_an_event_that_is_never_set_is_given_up_on() -> None:
    assert not await set_within(asyncio.Event(), 0.01)


async def test_a_wait_that_is_stopped_in_the_very_moment_of_the_event_is_stopped() -> None:
    event = asyncio.Event()
    waiting = asyncio.create_task(set_within(event, 3600))
    await asyncio.sleep(0)
    event.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
