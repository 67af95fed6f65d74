"""What a transaction causes reaches the bus if, and only if, the transaction is committed: at least once, in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, func, select
from sqlalchemy.orm import Session

from duologue.bus import Record
from duologue.bus.embedded import EmbeddedBus
from duologue.store import Database, Outbox, Term
from duologue.store.outbox import outbox_table

METADATA = MetaData()
TABLE = outbox_table(METADATA)
TOPIC = "test.topic.v1"


class CrashingBus:
    """The real bus, and a process that dies beside it: `before` or `after` the records are published."""

    def __init__(self, bus: EmbeddedBus, when: str) -> None:
        self._bus = bus
        self._when = when

    async def publish(self, records: Sequence[Record]) -> None:
        if self._when == "after":
            await self._bus.publish(records)
        raise RuntimeError("the process died")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.run(lambda session: METADATA.create_all(session.connection()))
    yield database
    await database.close()


@pytest.fixture
def outbox(database: Database, bus: EmbeddedBus) -> Outbox:
    return Outbox(TABLE, database, bus)


def records(first: int, end: int, key: str = "k") -> list[Record]:
    return [Record(TOPIC, key, str(number).encode(), {"number": str(number)}) for number in range(first, end)]


async def add(outbox: Outbox, database: Database, new: Sequence[Record]) -> None:
    await database.run(lambda session: outbox.add(session, new))
    outbox.wake()


@contextlib.asynccontextmanager
async def relaying(outbox: Outbox) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(outbox.relay(Term()))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def arrived(bus: EmbeddedBus, count: int) -> list[Record]:
    """The first `count` records on the topic, waited for."""
    subscription = await bus.subscribe("test", [TOPIC])
    found: list[Record] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [delivery.record for delivery in await subscription.fetch(count)]
    await subscription.close()
    return found


async def left(database: Database) -> int:
    def count(session: Session) -> int:
        return int(session.scalar(select(func.count()).select_from(TABLE)) or 0)

    return await database.run(count)


async def emptied(database: Database) -> None:
    async with asyncio.timeout(20):
        while await left(database):
            pass


async def test_records_reach_the_bus_as_they_were_and_are_forgotten(
    outbox: Outbox, database: Database, bus: EmbeddedBus
) -> None:
    async with relaying(outbox):
        await add(outbox, database, records(0, 3))
        assert await arrived(bus, 3) == records(0, 3)
        await emptied(database)


async def test_records_keep_their_order_over_transactions_and_batches(
    outbox: Outbox, database: Database, bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue.store.outbox._BATCH", 7)
    await add(outbox, database, records(0, 20))
    async with relaying(outbox):
        for first in range(20, 40):
            await add(outbox, database, records(first, first + 1))
        assert [record.value for record in await arrived(bus, 40)] == [str(number).encode() for number in range(40)]


async def test_what_was_rolled_back_is_never_published(outbox: Outbox, database: Database, bus: EmbeddedBus) -> None:
    def fail(session: Session) -> None:
        outbox.add(session, records(0, 5))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(fail)
    async with relaying(outbox):
        await add(outbox, database, records(5, 6))
        assert await arrived(bus, 1) == records(5, 6)


async def test_what_a_crash_left_behind_goes_first(outbox: Outbox, database: Database, bus: EmbeddedBus) -> None:
    await database.run(lambda session: outbox.add(session, records(0, 3)))  # and then the power went
    async with relaying(Outbox(TABLE, database, bus)):
        assert await arrived(bus, 3) == records(0, 3)


async def test_a_crash_between_publishing_and_forgetting_publishes_again(database: Database, bus: EmbeddedBus) -> None:
    crashing = Outbox(TABLE, database, CrashingBus(bus, "after"))
    await add(crashing, database, records(0, 3))
    with pytest.raises(RuntimeError, match="died"):
        await crashing.relay(Term())
    assert await left(database) == 3
    async with relaying(Outbox(TABLE, database, bus)):
        await emptied(database)
    assert await arrived(bus, 6) == records(0, 3) * 2


async def test_a_crash_before_publishing_loses_nothing(database: Database, bus: EmbeddedBus) -> None:
    crashing = Outbox(TABLE, database, CrashingBus(bus, "before"))
    await add(crashing, database, records(0, 3))
    with pytest.raises(RuntimeError, match="died"):
        await crashing.relay(Term())
    async with relaying(Outbox(TABLE, database, bus)):
        await emptied(database)
    assert await arrived(bus, 3) == records(0, 3)


async def test_a_relay_that_is_stopped_while_it_is_woken_stops(outbox: Outbox, database: Database) -> None:
    """The wake-up and the stop may fall into one turn of the event loop, at every stop of a busy service."""
    async with relaying(outbox) as relay:
        await add(outbox, database, records(0, 1))
        await emptied(database)
        for _ in range(20):  # until it waits to be woken
            await database.run(lambda _: None)
        outbox.wake()
        await asyncio.sleep(0)
        relay.cancel()
        await asyncio.wait({relay}, timeout=2)
        assert relay.cancelled()


async def test_nothing_to_add_is_nothing(outbox: Outbox, database: Database) -> None:
    await add(outbox, database, [])
    assert await left(database) == 0
