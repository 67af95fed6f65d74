"""The worker loop on a real embedded log: working and stopping."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from duologue.bus import Delivery, LeaseLost, Poison, Record, Subscription, Transient
from duologue.bus.embedded import EmbeddedBus
from tests.support.bus_work import (
    DEAD,
    GROUP,
    OUT,
    RETRY,
    TOPIC,
    arrived,
    echo,
    everything_on,
    requests,
    run,
    working,
)
from tests.support.eventually import eventually

# Working


async def test_a_record_becomes_what_the_handler_makes_of_it_and_is_done(bus: EmbeddedBus) -> None:
    async def handle(record: Record) -> list[Record]:
        return [Record(OUT, record.key, record.value + b" answered"), Record(OUT, record.key, b"and more")]

    await bus.publish(requests(1))
    async with working(bus, handle):
        answers = [delivery.record.value for delivery in await arrived(bus, OUT, 2)]
    assert answers == [b"0 answered", b"and more"]
    assert await bus.lag(TOPIC.consumer_group(GROUP), TOPIC.name) == 0


async def test_as_many_records_are_in_work_as_the_concurrency_says_and_never_more(bus: EmbeddedBus) -> None:
    inside = most = 0
    full = asyncio.Event()
    draw = random.Random(1)

    async def handle(record: Record) -> list[Record]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 5:
            full.set()
        await full.wait()
        await asyncio.sleep(draw.choice((0, 0.002, 0.01)))  # so that room is made for one at a time
        inside -= 1
        return echo(record)

    await bus.publish(requests(60))
    async with working(bus, handle, concurrency=5):
        await arrived(bus, OUT, 60)
    assert most == 5


async def test_a_slow_record_holds_up_no_others(bus: EmbeddedBus) -> None:
    release = asyncio.Event()

    async def handle(record: Record) -> list[Record]:
        if record.value == b"0":
            await release.wait()
        return echo(record)

    await bus.publish(requests(40))
    async with working(bus, handle, concurrency=2):
        others = await arrived(bus, OUT, 39)
        assert b"0" not in {delivery.record.value for delivery in others}
        release.set()
    assert len(await everything_on(bus, OUT)) == 40


async def test_records_of_one_key_are_handled_one_after_the_other(bus: EmbeddedBus) -> None:
    open_keys: set[str] = set()
    order: dict[str, list[int]] = defaultdict(list)

    async def handle(record: Record) -> list[Record]:
        assert record.key not in open_keys
        open_keys.add(record.key)
        for _ in range(5):
            await asyncio.sleep(0)
        open_keys.remove(record.key)
        order[record.key].append(int(record.value))
        return echo(record)

    await bus.publish([Record(TOPIC.name, f"key-{number % 3}", str(number).encode()) for number in range(60)])
    async with working(bus, handle):
        await arrived(bus, OUT, 60)
    assert order == {f"key-{first}": list(range(first, 60, 3)) for first in range(3)}


async def test_a_lease_that_was_lost_costs_only_that_record(bus: EmbeddedBus) -> None:
    class ForgetfulSubscription(OverSubscription):
        """Its lease for the record "0" is gone."""

        async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
            if delivery.record.value == b"0":
                raise LeaseLost("gone")
            await self.real.finish(delivery, outputs)

    async def handle(record: Record) -> list[Record]:
        return echo(record)

    await bus.publish(requests(10))
    async with working(OverBus(bus, ForgetfulSubscription), handle):
        await arrived(bus, OUT, 9)
    assert await everything_on(bus, DEAD) == []


# Stopping


async def test_a_stop_finishes_what_is_in_work_and_leaves_the_rest_to_others(bus: EmbeddedBus) -> None:
    handled: list[bytes] = []
    busy, most, last, stopping = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle_slowly(record: Record) -> list[Record]:
        handled.append(record.value)
        if len(handled) == 4:
            busy.set()
            await last.wait()
        else:
            await most.wait()
        return echo(record)

    async def handle(record: Record) -> list[Record]:
        handled.append(record.value)
        return echo(record)

    await bus.publish(requests(30))
    stopped = asyncio.create_task(run(bus, handle_slowly, stopping))
    await busy.wait()
    stopping.set()
    await asyncio.sleep(0)
    most.set()
    await arrived(bus, OUT, 3)  # there is room now, and nothing is begun in it
    last.set()
    await stopped
    assert len(handled) == 4
    assert len(await everything_on(bus, OUT)) == 4
    async with working(bus, handle):
        await arrived(bus, OUT, 30)
    assert sorted(handled) == sorted(record.value for record in requests(30))


async def test_what_cannot_be_finished_in_time_is_given_to_others(bus: EmbeddedBus) -> None:
    busy, stopping = asyncio.Event(), asyncio.Event()

    async def hang(record: Record) -> list[Record]:
        busy.set()
        await asyncio.sleep(3600)
        return echo(record)

    async def handle(record: Record) -> list[Record]:
        return echo(record)

    await bus.publish(requests(1))
    stopped = asyncio.create_task(run(bus, hang, stopping, drain_seconds=0.05))
    await busy.wait()
    stopping.set()
    await stopped
    assert await everything_on(bus, OUT) == []
    async with working(bus, handle):
        await arrived(bus, OUT, 1)
    assert await everything_on(bus, RETRY) == []


async def test_a_stop_with_nothing_to_do_is_immediate(bus: EmbeddedBus) -> None:
    async def handle(record: Record) -> list[Record]:
        return echo(record)

    stopping = asyncio.Event()
    stopping.set()
    await run(bus, handle, stopping, drain_seconds=3600)


class OverSubscription:
    """A real subscription, to imitate faults with."""

    def __init__(self, real: Subscription) -> None:
        self.real = real

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        return await self.real.fetch(limit)

    async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
        await self.real.finish(delivery, outputs)

    async def lag(self) -> Mapping[str, int]:
        return await self.real.lag()

    async def close(self) -> None:
        await self.real.close()


class FailingSubscription(OverSubscription):
    """Can't write."""

    async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
        raise OSError("no space left on device")


class DeafSubscription(OverSubscription):
    """Can't read."""

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        raise OSError("disk I/O error")


class OverBus:
    """A real bus with subscriptions that imitate a fault."""

    def __init__(self, real: EmbeddedBus, fault: Callable[[Subscription], Subscription]) -> None:
        self._real = real
        self._fault = fault
        self.publish, self.read, self.follow, self.topics = real.publish, real.read, real.follow, real.topics
        self.lag, self.close = real.lag, real.close

    async def subscribe(self, group: str, topics: Sequence[str]) -> Subscription:
        return self._fault(await self._real.subscribe(group, topics))


@pytest.mark.parametrize("outcome", [None, Poison("never"), Transient("later")], ids=["done", "dead", "retried"])
async def test_an_outcome_that_cannot_be_written_stops_the_worker_and_loses_nothing(
    bus: EmbeddedBus, outcome: Exception | None
) -> None:
    async def handle(record: Record) -> list[Record]:
        if outcome is not None:
            raise outcome
        return echo(record)

    await bus.publish(requests(3))
    with pytest.raises(OSError, match="no space left"):
        await run(OverBus(bus, FailingSubscription), handle, asyncio.Event())
    assert await bus.lag(TOPIC.consumer_group(GROUP), TOPIC.name) == 3

    async def handle_well(record: Record) -> list[Record]:
        return echo(record)

    async with working(bus, handle_well):
        await arrived(bus, OUT, 3)


async def test_an_outcome_that_cannot_be_written_while_stopping_is_still_said(bus: EmbeddedBus) -> None:
    busy, stopping, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(record: Record) -> list[Record]:
        busy.set()
        await release.wait()
        return echo(record)

    await bus.publish(requests(1))
    stopped = asyncio.create_task(run(OverBus(bus, FailingSubscription), handle, stopping))
    await busy.wait()
    stopping.set()
    release.set()
    with pytest.raises(OSError, match="no space left"):
        await stopped


async def test_a_bus_that_cannot_be_read_stops_the_worker(bus: EmbeddedBus) -> None:
    async def handle(record: Record) -> list[Record]:
        return echo(record)

    with pytest.raises(OSError, match="disk I/O error"):
        await run(OverBus(bus, DeafSubscription), handle, asyncio.Event())


class PromptSubscription(OverSubscription):
    """Writes without a moment's wait, in the event loop's sense; afterwards for real."""

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        assert limit > 0, "who asks for nothing waits for ever"
        return await super().fetch(limit)

    async def finish(self, delivery: Delivery, outputs: Sequence[Record] = ()) -> None:
        self.finishing = asyncio.create_task(self.real.finish(delivery, outputs))

    async def close(self) -> None:
        await self.finishing
        await super().close()


async def test_a_worker_whose_only_slot_is_free_for_a_moment_fetches_when_it_is(bus: EmbeddedBus) -> None:
    await bus.publish(requests(20))
    handled = asyncio.Semaphore(0)

    async def handle(record: Record) -> list[Record]:
        handled.release()
        return echo(record)

    async with working(OverBus(bus, PromptSubscription), handle, concurrency=1):
        for _ in range(20):
            await handled.acquire()


# Told


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"duologue_{name}", {"topic": TOPIC.name, "group": GROUP, **labels})


async def test_how_far_a_worker_is_behind_is_told_for_as_long_as_it_holds_partitions(bus: EmbeddedBus) -> None:
    await bus.publish(requests(5))
    go_on = asyncio.Event()

    async def handle(record: Record) -> list[Record]:
        await go_on.wait()
        return echo(record)

    async def five_behind() -> bool:
        return told("consumer_lag_records") == 5

    async with working(bus, handle):
        await eventually(five_behind, "it is five records behind")
        go_on.set()
        await arrived(bus, OUT, 5)
    assert told("consumer_lag_records") is None


async def test_the_age_of_a_record_is_told_where_it_says_when_it_was_made(bus: EmbeddedBus) -> None:
    def counted() -> float:
        return told("record_age_seconds_count", attempt="first") or 0.0

    async def handle(record: Record) -> list[Record]:
        return echo(record)

    before, summed = counted(), told("record_age_seconds_sum", attempt="first") or 0.0
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    times = [{"ce_time": an_hour_ago}, {"ce_time": "2026-01-01T00:00:00"}, {"ce_time": "yesterday"}, {}]
    await bus.publish([Record(TOPIC.name, "key", b"", headers) for headers in times])
    async with working(bus, handle):
        await arrived(bus, OUT, len(times))
    assert counted() == before + 1
    assert told("record_age_seconds_sum", attempt="first") >= summed + 3600
