"""Those who watch are woken, and can be stopped at any moment."""

from __future__ import annotations

import asyncio

from duologue_campaign.changes import Changes


async def test_a_change_wakes_all_who_wait() -> None:
    changes = Changes()
    waiting = [asyncio.create_task(changes.wait(60)) for _ in range(3)]
    await asyncio.sleep(0)
    changes.tell()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_who_waits_is_woken_after_a_while_without_any_change() -> None:
    async with asyncio.timeout(5):
        await Changes().wait(0.01)


async def test_a_change_that_was_before_the_wait_wakes_nobody() -> None:
    changes = Changes()
    changes.tell()
    waiting = asyncio.create_task(changes.wait(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_who_is_stopped_in_the_very_moment_of_a_change_is_stopped() -> None:
    changes = Changes()

    async def watch() -> None:
        while True:
            await changes.wait(60)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    changes.tell()
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait({watching}, timeout=1)
    stopped = watching.done()
    watching.cancel()
    assert stopped
