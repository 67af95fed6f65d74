"""How far a group is behind is told, and that it is not known while the bus does not say."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from duologue.bus import Bus, Record
from duologue.bus import lag as module
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.lag import watch_lag
from duologue.contracts.topics import DIALOGUE_SCORED
from tests.support.eventually import eventually
from tests.support.metrics import told

TOPIC, RETRY = DIALOGUE_SCORED.name, DIALOGUE_SCORED.retry("lagging")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)


@asynccontextmanager
async def watching(bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(watch_lag(bus, DIALOGUE_SCORED, "lagging"))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def lag_is(topic: str, holds: Callable[[float], bool]) -> None:
    async def claim() -> bool:
        return holds(told("duologue_consumer_lag_records", topic=topic, group="lagging"))

    await eventually(claim, f"the lag of {topic}")


async def test_what_waits_on_a_topic_and_on_its_retries_is_told_until_it_is_done(tmp_path: Path) -> None:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    records = [Record(TOPIC, str(number), b"") for number in range(3)]
    await bus.publish([*records, Record(RETRY, "late", b"")])
    async with watching(bus):
        await lag_is(TOPIC, lambda lag: lag == 3)
        await lag_is(RETRY, lambda lag: lag == 1)
        subscription = await bus.subscribe(DIALOGUE_SCORED.consumer_group("lagging"), [TOPIC])
        for _ in range(3):
            (delivery,) = await subscription.fetch(1)
            await subscription.finish(delivery)
        await lag_is(TOPIC, lambda lag: lag == 0)
    await bus.close()


async def test_a_lag_that_the_bus_does_not_tell_is_no_number(tmp_path: Path) -> None:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    async with watching(bus):
        await lag_is(TOPIC, lambda lag: lag == 0)
        await bus.close()
        await lag_is(TOPIC, math.isnan)
