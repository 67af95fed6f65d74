"""An outage is told from a record's own trouble, and records wait for its end."""

from __future__ import annotations

import asyncio

import pytest

from duologue.bus import RetryPolicy
from duologue.bus.circuit import CircuitBreaker

POLICY = RetryPolicy(first=1.0, longest=8.0, deadline=3600.0)


class Clock:
    """Passes when it is told to. `pauses`: how long each was to be, in seconds."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._passed = asyncio.Condition()
        self._allowed = 0

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        place = len(self.pauses)
        passes = asyncio.create_task(self._until(place))
        happens = asyncio.create_task(event.wait())
        await asyncio.wait({passes, happens}, return_when=asyncio.FIRST_COMPLETED)
        passes.cancel()
        happens.cancel()
        return event.is_set()

    async def _until(self, place: int) -> None:
        async with self._passed:
            await self._passed.wait_for(lambda: self._allowed >= place)

    async def pass_(self) -> None:
        async with self._passed:
            self._allowed += 1
            self._passed.notify_all()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(POLICY, clock.wait)


def fail(circuit: CircuitBreaker, records: int) -> None:
    for record in range(records):
        circuit.fail(f"record-{record}", "connection refused")


async def admitted(circuit: CircuitBreaker) -> bool:
    async with asyncio.timeout(10):
        return await circuit.admit()


async def test_it_opens_when_different_records_fail_one_after_the_other(circuit: CircuitBreaker) -> None:
    fail(circuit, 4)
    assert not circuit.is_open
    assert await admitted(circuit)
    fail(circuit, 5)
    assert circuit.is_open


async def test_one_record_alone_is_its_own_trouble(circuit: CircuitBreaker) -> None:
    for _ in range(100):
        circuit.fail("record", "connection refused")
    assert not circuit.is_open


async def test_what_goes_well_between_keeps_it_closed(circuit: CircuitBreaker) -> None:
    for _ in range(10):
        fail(circuit, 4)
        circuit.succeed()
    assert not circuit.is_open


async def test_while_it_is_open_one_is_tried_at_a_time_after_growing_pauses(
    circuit: CircuitBreaker, clock: Clock
) -> None:
    fail(circuit, 5)
    waiting = {asyncio.create_task(circuit.admit()) for _ in range(6)}
    for tried in range(1, 7):
        await clock.pass_()
        async with asyncio.timeout(10):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [True]
        circuit.fail(f"record-{tried}", "connection refused")
    for pause, longest in zip(clock.pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= pause <= longest


async def test_the_first_success_lets_all_go_on_and_forgets_the_outage(circuit: CircuitBreaker, clock: Clock) -> None:
    fail(circuit, 5)
    waiting = [asyncio.create_task(circuit.admit()) for _ in range(20)]
    await clock.pass_()
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    circuit.succeed()
    async with asyncio.timeout(10):
        assert all(await asyncio.gather(*waiting))
    assert not circuit.is_open

    clock.pauses.clear()
    fail(circuit, 5)
    again = asyncio.create_task(circuit.admit())
    await asyncio.sleep(0)
    circuit.succeed()
    await again
    assert clock.pauses[0] <= POLICY.first


async def test_a_stop_sends_away_who_waits(circuit: CircuitBreaker) -> None:
    fail(circuit, 5)
    waiting = [asyncio.create_task(circuit.admit()) for _ in range(5)]
    await asyncio.sleep(0)
    circuit.stop()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [False] * 5
    assert not await admitted(circuit)


async def test_a_stop_keeps_nobody_who_has_work_in_hand(circuit: CircuitBreaker) -> None:
    circuit.stop()
    fail(circuit, 5)
    assert await admitted(circuit)
