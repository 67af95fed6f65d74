"""Publishing to a bus, and finishing what it gave."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from duologue.bus import Bus, LeaseLost, Record, RecordTooLarge
from duologue.bus.record import MOST_BYTES, MOST_HEADER_BYTES
from tests.support.bus_backends import Backend
from tests.support.bus_contract import (
    KEYS,
    PATIENCE_SECONDS,
    all_is_done,
    lag_is,
    publish_round,
    record,
    take,
    values,
    work_off,
    written,
)
from tests.support.eventually import eventually

# Publishing


async def test_what_was_published_outlives_the_publisher(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    expected = await publish_round(bus, topic, "a")
    await backend.kill(bus)
    assert sorted(await written(await backend.open(), topic)) == sorted(expected)


@pytest.mark.parametrize(
    ("key", "value"), [("key", "not bytes"), ("lone surrogate \ud800", b"bytes")], ids=["value", "key"]
)
async def test_publishing_is_all_or_nothing(backend: Backend, key: str, value: bytes) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    fine = [record(topic, key, key) for key in KEYS]
    with pytest.raises(Exception, match=r".+"):
        await bus.publish([*fine, Record(topic, key, value), *fine])
    await bus.publish([record(topic, "after")])
    assert await written(bus, topic) == ["after"]


@pytest.mark.parametrize(
    "too_large",
    [
        Record("", "key", bytes(MOST_BYTES)),
        Record("", "k" * MOST_BYTES, b"x"),
        Record("", "key", b"", {"header": "x" * MOST_HEADER_BYTES}),
    ],
    ids=["value", "key", "headers"],
)
async def test_what_is_too_large_is_refused_with_all_that_was_to_be_written_with_it(
    backend: Backend, too_large: Record
) -> None:
    bus, topic, out = await backend.open(), await backend.new_topic(), await backend.new_topic()
    await bus.publish([record(topic, "question")])
    member = await bus.subscribe("readers", [topic])
    (delivery,) = await take(member, 1)
    with pytest.raises(RecordTooLarge):
        await bus.publish([record(out, "fine"), replace(too_large, topic=out)])
    with pytest.raises(RecordTooLarge):
        await member.finish(delivery, [record(out, "answer"), replace(too_large, topic=out)])
    assert await written(bus, out) == []
    await member.finish(delivery, [record(out, "answer")])
    assert await written(bus, out) == ["answer"]


async def test_a_record_that_cannot_be_written_fails_nobody_else(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    member = await bus.subscribe("readers", [topic])
    await bus.publish([record(topic, "in work")])
    (in_work,) = await take(member, 1)
    broken = Record(topic, "key", "not bytes")  # type: ignore[arg-type]
    results = await asyncio.gather(
        *(bus.publish([record(topic, f"{number}")]) for number in range(10)),
        bus.publish([broken]),
        member.finish(in_work, [record(topic, "output")]),
        *(bus.publish([record(topic, f"{number}")]) for number in range(10, 20)),
        return_exceptions=True,
    )
    assert [index for index, result in enumerate(results) if result is not None] == [10]
    assert sorted(await written(bus, topic)) == sorted(["in work", "output", *map(str, range(20))])


async def test_concurrent_publishers_lose_nothing(backend: Backend) -> None:
    topic = await backend.new_topic()
    buses = [await backend.open() for _ in range(4)]

    async def publish(bus: Bus, name: str) -> list[str]:
        said = [f"{name} {number:02}" for number in range(20)]
        for first, second in zip(said[::2], said[1::2], strict=True):
            await bus.publish([record(topic, first, name), record(topic, second, name)])
        return said

    names = [(bus, f"{place}/{task}") for place, bus in enumerate(buses) for task in range(4)]
    said = await asyncio.gather(*(publish(bus, name) for bus, name in names))
    seen = await written(buses[0], topic)
    for of_one in said:
        assert [value for value in seen if value in of_one] == of_one
    assert len(seen) == sum(map(len, said))


async def test_a_record_is_not_given_before_its_time(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    due = time.time() + 0.3
    await bus.publish([Record(topic, "key", b"later", not_before=due)])
    (late,) = await take(await bus.subscribe("readers", [topic]), 1)
    assert time.time() >= due
    assert (late.record.value, late.record.not_before) == (b"later", due)


async def test_a_record_that_waits_holds_up_no_other_and_is_not_passed_over_in_the_commit(backend: Backend) -> None:
    bus, heir_bus, topic = await backend.open(), await backend.open(), await backend.new_topic()
    waits = [Record(topic, key, b"tomorrow", not_before=time.time() + 86_400) for key in KEYS]
    await bus.publish([*waits[:30], *(record(topic, f"due {key}", key) for key in KEYS), *waits[30:]])
    member = await bus.subscribe("readers", [topic])
    deliveries = await take(member, len(KEYS))
    assert sorted(values(deliveries)) == sorted(f"due {key}" for key in KEYS)
    for delivery in deliveries:
        await member.finish(delivery)
    await backend.kill(bus)
    heir = await heir_bus.subscribe("readers", [topic])
    await heir_bus.publish([record(topic, "marker")])
    assert values(await take(heir, 1)) == ["marker"]
    assert await heir_bus.lag("readers", topic) >= len(waits)


# Finishing


async def test_the_lowest_record_that_is_not_finished_holds_the_commit(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    await bus.publish([record(topic, f"{number}") for number in range(5)])
    assert await lag_is(bus, "readers", topic, 5)
    member = await bus.subscribe("readers", [topic])
    deliveries = await take(member, 5)
    lags = []
    for index in (3, 1, 0, 4):
        await member.finish(deliveries[index])
        lags.append(await bus.lag("readers", topic))
    assert lags[0] == lags[1] >= 5
    assert lags[2] == lags[3] == lags[0] - 2
    await member.finish(deliveries[2])
    await all_is_done(bus, "readers", topic)
    assert await lag_is(bus, "others", topic, 5)


async def test_finishing_publishes_the_outputs_and_marks_the_record_done(backend: Backend) -> None:
    bus, topic, out = await backend.open(), await backend.new_topic(), await backend.new_topic()
    await bus.publish([record(topic, "question")])
    member = await bus.subscribe("readers", [topic])
    (delivery,) = await take(member, 1)
    await member.finish(delivery, [record(out, "answer"), record(out, "and more")])
    assert await written(bus, out) == ["answer", "and more"]
    await all_is_done(bus, "readers", topic)


async def test_outputs_that_cannot_be_written_leave_the_record_unfinished(backend: Backend) -> None:
    bus, topic, out = await backend.open(), await backend.new_topic(), await backend.new_topic()
    await bus.publish([record(topic, "question")])
    member = await bus.subscribe("readers", [topic])
    (delivery,) = await take(member, 1)
    for key, value in (("key", "not bytes"), ("lone surrogate \ud800", b"bytes")):
        broken = Record(out, key, value)  # type: ignore[arg-type]
        with pytest.raises(Exception, match=r".+"):
            await member.finish(delivery, [record(out, "answer"), broken])
        assert await written(bus, out) == []
        assert await lag_is(bus, "readers", topic, 1)
    await member.finish(delivery, [record(out, "answer")])
    assert await written(bus, out) == ["answer"]


async def test_finishing_a_record_again_writes_nothing_twice(backend: Backend) -> None:
    bus, topic, out = await backend.open(), await backend.new_topic(), await backend.new_topic()
    await bus.publish([record(topic, f"{number}") for number in range(3)])
    member = await bus.subscribe("readers", [topic])
    deliveries = await take(member, 3)
    for index in (1, 1, 0, 0, 1, 2):
        with contextlib.suppress(LeaseLost):
            await member.finish(deliveries[index], [record(out, f"{index}")])
    assert await written(bus, out) == ["1", "0", "2"]
    await all_is_done(bus, "readers", topic)


async def test_a_member_that_was_thought_dead_can_finish_nothing_and_takes_part_again(backend: Backend) -> None:
    topic, out = await backend.new_topic(), await backend.new_topic()
    frozen_bus, other_bus = await backend.open(), await backend.open()
    frozen = await frozen_bus.subscribe("readers", [topic])
    expected = await publish_round(other_bus, topic, "a")
    stale = await take(frozen, len(expected))
    await backend.freeze(frozen_bus)
    other = await other_bus.subscribe("readers", [topic])
    fresh = await take(other, len(expected))
    assert sorted(values(fresh)) == sorted(expected)
    await backend.thaw(frozen_bus)
    for delivery in stale:
        with pytest.raises(LeaseLost):
            await frozen.finish(delivery, [record(out, "twice")])
    assert await written(other_bus, out) == []
    assert await lag_is(other_bus, "readers", topic, len(expected))

    for delivery in fresh:  # the other's hold is untouched, until its partitions are shared again
        with contextlib.suppress(LeaseLost):
            await other.finish(delivery)
    rounds = 0

    async def both_have_work() -> bool:
        nonlocal rounds
        rounds += 1
        values = await publish_round(other_bus, topic, f"round {rounds}")
        return len({member for member, _ in (await work_off(frozen, other, expected=values)).finished}) == 2

    await eventually(both_have_work, "the member that came back has work again", PATIENCE_SECONDS)


async def test_closing_ends_fetch_and_hands_back_what_is_not_finished(backend: Backend) -> None:
    bus, topic, out = await backend.open(), await backend.new_topic(), await backend.new_topic()
    await bus.publish([record(topic, "in work")])
    member = await bus.subscribe("readers", [topic])
    (delivery,) = await take(member, 1)
    waiting = asyncio.create_task(member.fetch(1))
    await asyncio.sleep(0)
    await member.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert list(await waiting) == []
        assert list(await member.fetch(1)) == []
    with pytest.raises(LeaseLost):
        await member.finish(delivery, [record(out, "too late")])
    assert await written(bus, out) == []
    await member.close()
    assert values(await take(await bus.subscribe("readers", [topic]), 1)) == ["in work"]


async def test_closing_a_bus_ends_the_fetches_of_its_members(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    waiting = [
        asyncio.create_task((await bus.subscribe(group, [topic])).fetch(1)) for group in ("scoring", "filtering")
    ]
    await asyncio.sleep(0)
    await bus.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert [list(await fetch) for fetch in waiting] == [[], []]
