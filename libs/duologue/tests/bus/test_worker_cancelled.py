"""Records that are cancelled: the work on them ends, and nothing else does."""

import asyncio
from contextlib import suppress

from prometheus_client import REGISTRY

from duologue.bus import Record, Transient, Worker
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.worker import ATTEMPT
from tests.support.bus_work import (
    DEAD,
    GROUP,
    OUT,
    PATIENCE_SECONDS,
    QUICK,
    RETRY,
    TOPIC,
    Handle,
    arrived,
    at_work,
    echo,
    everything_on,
    requests,
)
from tests.support.eventually import eventually


class Desk:
    """A worker, and which values of records were cancelled."""

    def __init__(self, bus: EmbeddedBus, handle: Handle, *, concurrency: int = 8) -> None:
        self._bus = bus
        self._cancelled: set[bytes] = set()
        self.worker = Worker(
            bus, TOPIC, GROUP, handle, concurrency=concurrency, retry=QUICK, is_cancelled=self._is_cancelled
        )

    def cancel(self, *values: bytes) -> None:
        self._cancelled.update(values)
        self.worker.drop_cancelled()

    async def nothing_is_left(self) -> None:
        async def claimed() -> bool:
            group = TOPIC.consumer_group(GROUP)
            return not await self._bus.lag(group, TOPIC.name) and not await self._bus.lag(group, RETRY)

        await eventually(claimed, "the group has nothing left", PATIENCE_SECONDS)

    def _is_cancelled(self, record: Record) -> bool:
        return record.value in self._cancelled


class Held:
    """A handler that holds what it is given until it is told, or broken off."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.broken_off: list[bytes] = []
        self.release = asyncio.Event()

    async def __call__(self, record: Record) -> list[Record]:
        self.begun.append(record.value)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.broken_off.append(record.value)
            raise
        return echo(record)

    async def has_begun(self, count: int) -> None:
        async def claimed() -> bool:
            return len(self.begun) >= count

        await eventually(claimed, f"{count} are in work", PATIENCE_SECONDS)


def cancelled_so_far() -> float:
    labels = {"topic": TOPIC.name, "group": GROUP, "outcome": "cancelled"}
    return REGISTRY.get_sample_value("duologue_records_total", labels) or 0.0


async def values_on(bus: EmbeddedBus, topic: str) -> list[bytes]:
    return sorted(record.value for record in await everything_on(bus, topic))


async def test_what_is_cancelled_in_work_is_broken_off_done_and_causes_nothing(bus: EmbeddedBus) -> None:
    held, before = Held(), cancelled_so_far()
    desk = Desk(bus, held)
    await bus.publish(requests(4))
    async with at_work(desk.worker):
        await held.has_begun(4)
        desk.cancel(b"1", b"2")
        await eventually_broken_off(held, 2)
        held.release.set()
        await desk.nothing_is_left()
    assert sorted(held.broken_off) == [b"1", b"2"]
    assert await values_on(bus, OUT) == [b"0", b"3"]
    assert await everything_on(bus, RETRY) == await everything_on(bus, DEAD) == []
    assert cancelled_so_far() - before == 2


async def eventually_broken_off(held: Held, count: int) -> None:
    async def claimed() -> bool:
        return len(held.broken_off) == count

    await eventually(claimed, f"{count} are broken off", PATIENCE_SECONDS)


async def test_what_is_cancelled_before_its_turn_is_never_begun(bus: EmbeddedBus) -> None:
    held = Held()
    desk = Desk(bus, held, concurrency=1)
    await bus.publish(requests(4))
    async with at_work(desk.worker):
        await held.has_begun(1)
        desk.cancel(*{b"0", b"1", b"2", b"3"} - set(held.begun))
        held.release.set()
        await desk.nothing_is_left()
    assert len(held.begun) == 1
    assert await values_on(bus, OUT) == held.begun


async def test_what_is_cancelled_between_two_records_of_its_key_does_not_bring_them_together(
    bus: EmbeddedBus,
) -> None:
    held = Held()
    desk = Desk(bus, held)
    await bus.publish([Record(TOPIC.name, "key", value) for value in (b"first", b"second", b"third")])
    async with at_work(desk.worker):
        await held.has_begun(1)
        desk.cancel(b"second")
        await bus.publish([Record(TOPIC.name, "other", b"other")])
        await held.has_begun(2)
        assert held.begun == [b"first", b"other"]
        held.release.set()
        await desk.nothing_is_left()
    assert held.begun == [b"first", b"other", b"third"]
    assert await values_on(bus, OUT) == [b"first", b"other", b"third"]


async def test_room_that_a_cancelled_record_leaves_is_for_others_at_once(bus: EmbeddedBus) -> None:
    held = Held()
    desk = Desk(bus, held, concurrency=2)
    await bus.publish(requests(2))
    async with at_work(desk.worker):
        await held.has_begun(2)
        await bus.publish([Record(TOPIC.name, "other", b"other")])
        desk.cancel(b"0", b"1")
        await held.has_begun(3)
        held.release.set()
        await desk.nothing_is_left()
    assert await values_on(bus, OUT) == [b"other"]


async def test_a_record_that_is_tried_again_is_not_once_it_is_cancelled(bus: EmbeddedBus) -> None:
    begun: list[bytes] = []

    async def handle(record: Record) -> list[Record]:
        begun.append(record.value)
        desk.cancel(b"0")  # meanwhile; it has no effect on what does not wait
        raise Transient("another time")

    desk = Desk(bus, handle)
    await bus.publish(requests(1))
    async with at_work(desk.worker):
        await desk.nothing_is_left()
    assert begun == [b"0"]
    assert await everything_on(bus, OUT) == await everything_on(bus, DEAD) == []


async def test_a_record_whose_member_died_is_passed_over_by_the_next(bus: EmbeddedBus) -> None:
    held = Held()
    first = Desk(bus, held)
    await bus.publish(requests(3))
    working_on = asyncio.create_task(first.worker.run(asyncio.Event(), 0))
    await held.has_begun(3)
    working_on.cancel()
    with suppress(asyncio.CancelledError):
        await working_on
    assert sorted(held.broken_off) == [b"0", b"1", b"2"]

    held.release.set()
    second = Desk(bus, held)
    second.cancel(b"1")
    async with at_work(second.worker):
        await second.nothing_is_left()
    assert await values_on(bus, OUT) == [b"0", b"2"]
    assert held.begun.count(b"1") == 1


async def test_a_worker_that_stops_leaves_to_others_what_is_not_cancelled(bus: EmbeddedBus) -> None:
    held, stopping = Held(), asyncio.Event()
    desk = Desk(bus, held)
    await bus.publish(requests(3))
    stopped = asyncio.create_task(desk.worker.run(stopping, drain_seconds=0.05))
    await held.has_begun(3)
    stopping.set()
    await stopped
    assert await everything_on(bus, RETRY) == []
    assert await bus.lag(TOPIC.consumer_group(GROUP), TOPIC.name) == 3


async def test_a_record_that_is_cancelled_while_its_worker_is_ended_is_finished_by_nobody_twice(
    bus: EmbeddedBus,
) -> None:
    held = Held()
    desk = Desk(bus, held)
    await bus.publish(requests(1))
    working_on = asyncio.create_task(desk.worker.run(asyncio.Event(), 0))
    await held.has_begun(1)
    desk.cancel(b"0")
    working_on.cancel()  # in the same moment
    with suppress(asyncio.CancelledError):
        await working_on
    again = Desk(bus, held)
    again.cancel(b"0")
    async with at_work(again.worker):
        await again.nothing_is_left()
    assert held.begun == [b"0"]
    assert await everything_on(bus, OUT) == []


async def test_a_handler_that_ends_well_though_it_was_broken_off_causes_nothing(bus: EmbeddedBus) -> None:
    begun = asyncio.Event()

    async def stubborn(record: Record) -> list[Record]:
        begun.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return echo(record)

    desk = Desk(bus, stubborn)
    await bus.publish(requests(1))
    async with at_work(desk.worker):
        await begun.wait()
        desk.cancel(b"0")
        await desk.nothing_is_left()
    assert await everything_on(bus, OUT) == []


async def test_what_the_handler_waited_for_may_be_cancelled_by_others_and_is_tried_again(bus: EmbeddedBus) -> None:
    async def handle(record: Record) -> list[Record]:
        if ATTEMPT not in record.headers:
            raise asyncio.CancelledError
        return echo(record)

    desk = Desk(bus, handle)
    await bus.publish(requests(1))
    async with at_work(desk.worker):
        await arrived(bus, OUT, 1)


async def test_cancelled_records_do_not_pass_for_an_end_of_an_outage_nor_wait_for_it(bus: EmbeddedBus) -> None:
    tries: list[bytes] = []

    async def handle(record: Record) -> list[Record]:
        tries.append(record.value)
        raise Transient("the model server is gone")

    # With pauses so long that a record which had to wait for its trial would not come to its turn.
    patient = Desk(bus, handle, concurrency=32)
    patient.worker._circuit._wait = until_set  # type: ignore[assignment]
    await bus.publish(requests(10))
    async with at_work(patient.worker) as stopping:
        await eventually_open(patient)
        await bus.publish([Record(TOPIC.name, f"late-{number}", b"late") for number in range(10)])
        patient.cancel(b"late", *(record.value for record in requests(10)))
        await patient.nothing_is_left()
        assert patient.worker._circuit.is_open
        stopping.set()
    assert b"late" not in tries


async def until_set(event: asyncio.Event, _: float) -> bool:
    return await event.wait()


async def eventually_open(desk: Desk) -> None:
    async def claimed() -> bool:
        return desk.worker._circuit.is_open

    await eventually(claimed, "the circuit is open", PATIENCE_SECONDS)
