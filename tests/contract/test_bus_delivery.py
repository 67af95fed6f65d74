"""What a bus gives to whom, and that it comes through untouched."""

import asyncio
import contextlib
import random
from collections import defaultdict
from itertools import pairwise

import pytest

from duologue.bus import Delivery, Record
from tests.support.bus_backends import Backend
from tests.support.bus_contract import (
    KEYS,
    PATIENCE_SECONDS,
    Group,
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

# Who is given what


async def test_records_of_a_key_keep_their_order(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    for number in range(20):
        await bus.publish([record(topic, f"{key} {number:02}", key) for key in KEYS[:10]])
    deliveries = await take(await bus.subscribe("readers", [topic]), 200)
    for key in KEYS[:10]:
        of_key = [delivery for delivery in deliveries if delivery.record.key == key]
        assert values(of_key) == [f"{key} {number:02}" for number in range(20)]
        assert len({delivery.partition for delivery in of_key}) == 1
        assert all(earlier.offset < later.offset for earlier, later in pairwise(of_key))


async def test_a_record_is_given_to_one_member_of_a_group_and_to_every_group(backend: Backend) -> None:
    topic = await backend.new_topic()
    buses = [await backend.open() for _ in range(4)]
    scoring = [await bus.subscribe("scoring", [topic]) for bus in buses[:2]]
    filtering = [await bus.subscribe("filtering", [topic]) for bus in buses[2:]]
    groups = [Group(), Group()]
    for group, members in zip(groups, (scoring, filtering), strict=True):
        group.start(*members)
    expected = await publish_round(buses[0], topic, "a")
    expected += await publish_round(buses[3], topic, "b")
    for group in groups:
        await group.finish(expected)
        assert sorted(group.values()) == sorted(expected)


async def test_members_share_the_partitions_and_take_over_those_of_a_member_that_leaves(backend: Backend) -> None:
    topic = await backend.new_topic()
    first_bus, second_bus = await backend.open(), await backend.open()
    first = await first_bus.subscribe("readers", [topic])
    alone = await work_off(first, expected=await publish_round(first_bus, topic, "alone"))
    everything = alone.partitions(first)
    assert len(everything) >= 4

    second = await second_bus.subscribe("readers", [topic])
    rounds = 0

    async def both_have_work() -> bool:
        nonlocal rounds
        rounds += 1
        both = await work_off(first, second, expected=await publish_round(first_bus, topic, f"round {rounds}"))
        assert both.partitions(first, second) == everything
        of_first, of_second = both.partitions(first), both.partitions(second)
        return bool(of_first and of_second) and of_first.isdisjoint(of_second)

    await eventually(both_have_work, "both members have partitions of their own", PATIENCE_SECONDS)

    await second.close()
    left = await work_off(first, expected=await publish_round(first_bus, topic, "left"))
    assert left.partitions(first) == everything


async def test_a_new_group_starts_at_the_oldest_record(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    expected = await publish_round(bus, topic, "old")
    await work_off(await bus.subscribe("early", [topic]), expected=expected)
    late = await work_off(await bus.subscribe("late", [topic]), expected=expected)
    assert sorted(late.values()) == sorted(expected)


async def test_a_group_that_comes_back_goes_on_where_it_was(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    await bus.publish([record(topic, "seen")])
    before = await bus.subscribe("readers", [topic])
    await before.finish(*await take(before, 1))
    await before.close()
    await bus.publish([record(topic, "new")])
    assert values(await take(await bus.subscribe("readers", [topic]), 1)) == ["new"]


async def test_a_member_reads_all_the_topics_that_it_asked_for(backend: Backend) -> None:
    bus = await backend.open()
    topics = [await backend.new_topic(), await backend.new_topic()]
    member = await bus.subscribe("readers", topics)
    await bus.publish([record(topics[0], "first"), record(topics[1], "second")])
    given = await take(member, 2)
    assert {delivery.record.topic for delivery in given} == set(topics)


async def test_fetch_gives_no_more_than_it_was_asked_for(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    expected = await publish_round(bus, topic, "a")
    member = await bus.subscribe("readers", [topic])
    given: list[Delivery] = []
    while len(given) < len(expected):
        async with asyncio.timeout(PATIENCE_SECONDS):
            batch = await member.fetch(7)
        assert 1 <= len(batch) <= 7
        given += batch
    assert sorted(values(given)) == sorted(expected)


async def test_a_fetch_that_is_given_up_loses_nothing_and_keeps_the_order(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    member = await bus.subscribe("readers", [topic])
    draw = random.Random(4)
    expected = [f"{number:03}" for number in range(300)]
    given: list[str] = []
    for first in range(0, 300, 2):
        fetch = asyncio.create_task(member.fetch(9))
        publish = asyncio.create_task(bus.publish([record(topic, value) for value in expected[first : first + 2]]))
        await asyncio.sleep(draw.choice((0, 0.001, 0.002, 0.004)))  # so that it is given up at any point of its work
        for _ in range(draw.randrange(6)):
            await asyncio.sleep(0)
        fetch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            given += values(await fetch)
        await publish
    while len(given) < len(expected):
        (one,) = await take(member, 1)
        given.append(one.record.value.decode())
    assert given == expected


# What comes through


@pytest.mark.parametrize(
    "sent",
    [
        Record("", "key", b"\x00\xff\xfe not text \x80"),
        Record("", "key", b""),
        Record("", "", b"no key"),
        Record("", "ключ \N{PARTY POPPER} \n\t", b"any key"),
        Record("", "key", b"headers", {"empty": "", "naïve": "größer \N{PARTY POPPER} \n\t\"'", "a b:=;": "x" * 5000}),
        Record("", "key", random.Random(1).randbytes(1_000_000)),
        Record("", "k" * 1000, b"a long key"),
    ],
    ids=["bytes", "empty", "no key", "unicode key", "headers", "1 MB", "long key"],
)
async def test_key_value_and_headers_come_through_untouched(backend: Backend, sent: Record) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    await bus.publish([Record(topic, sent.key, sent.value, sent.headers)])
    (given,) = await take(await bus.subscribe("readers", [topic]), 1)
    (seen,) = [delivery async for delivery in bus.read(topic)]
    for got in (given.record, seen.record):
        assert (got.topic, got.key, got.value, got.headers) == (topic, sent.key, sent.value, sent.headers)
    assert given.place == seen.place


async def test_random_bytes_come_through_untouched(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    draw = random.Random(2)
    sent = [Record(topic, f"{number}", draw.randbytes(draw.randrange(300))) for number in range(300)]
    await bus.publish(sent)
    given = await take(await bus.subscribe("readers", [topic]), len(sent))
    assert {delivery.record.key: delivery.record.value for delivery in given} == {r.key: r.value for r in sent}


async def test_read_sees_everything_and_moves_no_group(backend: Backend) -> None:
    bus, other, topic = await backend.open(), await backend.open(), await backend.new_topic()
    expected = [value for name in "abcdef" for value in await publish_round(bus, topic, name)]
    member = await bus.subscribe("readers", [topic])
    await member.finish(*await take(member, 1))
    for reader in (bus, other):
        seen = [delivery async for delivery in reader.read(topic)]
        assert sorted(values(seen)) == sorted(expected)
        offsets: dict[int, list[int]] = defaultdict(list)
        for delivery in seen:
            offsets[delivery.partition].append(delivery.offset)
        assert all(of_one == sorted(of_one) for of_one in offsets.values())
    assert await lag_is(other, "readers", topic, len(expected) - 1)


async def test_topics_are_those_that_were_written_to_or_asked_for(backend: Backend) -> None:
    bus, other = await backend.open(), await backend.open()
    published, subscribed, unknown = [await backend.new_topic() for _ in range(3)]
    await bus.publish([record(published, "a")])
    await bus.subscribe("readers", [subscribed])
    assert {published, subscribed} <= set(await other.topics())
    assert await written(other, unknown) == []
    await all_is_done(other, "readers", unknown)
