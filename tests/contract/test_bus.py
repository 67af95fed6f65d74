"""What every bus backend promises; see tests/support/bus_backends.py for how one joins in.

Where a test claims that something is *not* delivered, it publishes a marker behind it and waits for the marker.
"""

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise

import pytest

from duologue.bus import Bus, Delivery, LeaseLost, Record, Subscription
from tests.support.bus_backends import Backend
from tests.support.eventually import eventually

PATIENCE_SECONDS = 30.0
# Enough keys to hit every partition of a topic.
KEYS = [f"key-{number}" for number in range(60)]


def record(topic: str, value: str, key: str = "one") -> Record:
    return Record(topic, key, value.encode())


def values(deliveries: Iterable[Delivery]) -> list[str]:
    return [delivery.record.value.decode() for delivery in deliveries]


async def take(subscription: Subscription, count: int) -> list[Delivery]:
    """The next `count` deliveries, not finished."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(taken) < count:
            taken += await subscription.fetch(count - len(taken))
    return taken


async def written(bus: Bus, topic: str) -> list[str]:
    return values([delivery async for delivery in bus.read(topic)])


class Group:
    """Members at work: each finishes what it is given. `finished` has the member and delivery of each success."""

    def __init__(self, outputs: Callable[[Delivery], Sequence[Record]] = lambda _: ()) -> None:
        self.finished: list[tuple[Subscription, Delivery]] = []
        self._outputs = outputs
        self._tasks: dict[Subscription, asyncio.Task[None]] = {}

    def start(self, *subscriptions: Subscription) -> None:
        for subscription in subscriptions:
            self._tasks[subscription] = asyncio.create_task(self._work(subscription))

    async def _work(self, subscription: Subscription) -> None:
        while deliveries := await subscription.fetch(8):
            for delivery in deliveries:
                with contextlib.suppress(LeaseLost):
                    await subscription.finish(delivery, self._outputs(delivery))
                    self.finished.append((subscription, delivery))

    async def stop(self, subscription: Subscription) -> None:
        """The member works no more. What it was finishing may be finished and not be in `finished`."""
        task = self._tasks.pop(subscription)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def until(self, claim: Callable[[], Awaitable[bool]], what: str) -> None:
        """Work until `claim` holds; what failed a member fails the test."""

        async def claimed() -> bool:
            for task in self._tasks.values():
                if task.done():
                    task.result()
            return await claim()

        await eventually(claimed, what, PATIENCE_SECONDS)

    async def finish(self, expected: Iterable[str]) -> None:
        """Work until all the values were finished, then stop all members."""
        wanted = set(expected)

        async def all_finished() -> bool:
            return wanted <= set(self.values())

        await self.until(all_finished, "every record is finished")
        for subscription in list(self._tasks):
            await self.stop(subscription)

    def values(self) -> list[str]:
        return values(delivery for _, delivery in self.finished)

    def partitions(self, *subscriptions: Subscription) -> set[int]:
        return {delivery.partition for member, delivery in self.finished if member in subscriptions}


async def work_off(*subscriptions: Subscription, expected: Iterable[str]) -> Group:
    group = Group()
    group.start(*subscriptions)
    await group.finish(expected)
    return group


async def publish_round(bus: Bus, topic: str, name: str) -> list[str]:
    """One record of every key; the values."""
    await bus.publish([record(topic, f"{name} {key}", key) for key in KEYS])
    return [f"{name} {key}" for key in KEYS]


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
    assert await other.lag("readers", topic) == len(expected) - 1


async def test_topics_are_those_that_were_written_to_or_asked_for(backend: Backend) -> None:
    bus, other = await backend.open(), await backend.open()
    published, subscribed, unknown = [await backend.new_topic() for _ in range(3)]
    await bus.publish([record(published, "a")])
    await bus.subscribe("readers", [subscribed])
    assert {published, subscribed} <= set(await other.topics())
    assert await written(other, unknown) == []
    assert await other.lag("readers", unknown) == 0


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
    assert await bus.lag("readers", topic) == 5
    member = await bus.subscribe("readers", [topic])
    deliveries = await take(member, 5)
    lags = []
    for index in (3, 1, 0, 4, 2):
        await member.finish(deliveries[index])
        lags.append(await bus.lag("readers", topic))
    assert lags == [5, 5, 3, 3, 0]
    assert await bus.lag("others", topic) == 5


async def test_finishing_publishes_the_outputs_and_marks_the_record_done(backend: Backend) -> None:
    bus, topic, out = await backend.open(), await backend.new_topic(), await backend.new_topic()
    await bus.publish([record(topic, "question")])
    member = await bus.subscribe("readers", [topic])
    (delivery,) = await take(member, 1)
    await member.finish(delivery, [record(out, "answer"), record(out, "and more")])
    assert await written(bus, out) == ["answer", "and more"]
    assert await bus.lag("readers", topic) == 0


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
        assert await bus.lag("readers", topic) == 1
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
    assert await bus.lag("readers", topic) == 0


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
    assert await other_bus.lag("readers", topic) == len(expected)

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


# Crashes and changes in the group


async def test_what_a_dead_member_had_in_work_is_given_again_and_what_it_finished_never(backend: Backend) -> None:
    topic = await backend.new_topic()
    doomed_bus, heir_bus = await backend.open(), await backend.open()
    expected = await publish_round(heir_bus, topic, "a")
    doomed = await doomed_bus.subscribe("readers", [topic])
    deliveries = await take(doomed, len(expected))
    finished = random.Random(3).sample(deliveries, 25)
    for delivery in finished:
        await doomed.finish(delivery)
    heir = await heir_bus.subscribe("readers", [topic])
    await backend.kill(doomed_bus)
    markers = await publish_round(heir_bus, topic, "marker")
    again = await work_off(heir, expected=[*set(expected) - set(values(finished)), *markers])
    assert sorted([*again.values(), *values(finished)]) == sorted([*expected, *markers])
    assert await heir_bus.lag("readers", topic) == 0


async def test_what_was_finished_out_of_order_before_a_crash_is_never_given_again(backend: Backend) -> None:
    topic = await backend.new_topic()
    doomed_bus, heir_bus = await backend.open(), await backend.open()
    await heir_bus.publish([record(topic, f"{number}") for number in range(8)])
    doomed = await doomed_bus.subscribe("readers", [topic])
    deliveries = await take(doomed, 8)
    for index in (6, 3, 1, 2):
        await doomed.finish(deliveries[index])
    await backend.kill(doomed_bus)
    heir = await heir_bus.subscribe("readers", [topic])
    await heir_bus.publish([record(topic, "marker")])
    again = await take(heir, 5)
    assert values(again) == ["0", "4", "5", "7", "marker"]

    # And again, one at a time, over a record that the heir finished and one that the dead member did.
    await heir.finish(again[1])
    await backend.kill(heir_bus)
    last_bus = await backend.open()
    last = await last_bus.subscribe("readers", [topic])
    one_by_one = [delivery for _ in range(4) for delivery in await take(last, 1)]
    assert values(one_by_one) == ["0", "5", "7", "marker"]


async def test_many_finished_records_are_passed_over_after_a_crash(backend: Backend) -> None:
    topic = await backend.new_topic()
    doomed_bus, heir_bus = await backend.open(), await backend.open()
    await heir_bus.publish([record(topic, f"{number}") for number in range(502)])
    doomed = await doomed_bus.subscribe("readers", [topic])
    _, *others, _ = await take(doomed, 502)
    await asyncio.gather(*(doomed.finish(delivery) for delivery in others))
    await backend.kill(doomed_bus)
    heir = await heir_bus.subscribe("readers", [topic])
    assert values(await take(heir, 1)) == ["0"]
    assert values(await take(heir, 1)) == ["501"]


async def a_lease_passes(backend: Backend) -> None:
    """Wait until a member that dies now is replaced: by then everything is settled that waits for a sign of life."""
    doomed_bus, heir_bus, topic = await backend.open(), await backend.open(), await backend.new_topic()
    await heir_bus.publish([record(topic, "a")])
    await take(await doomed_bus.subscribe("clock", [topic]), 1)
    await backend.kill(doomed_bus)
    await take(await heir_bus.subscribe("clock", [topic]), 1)


async def test_a_member_that_does_not_fetch_keeps_its_partitions(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    busy = await bus.subscribe("readers", [topic])
    expected = await publish_round(bus, topic, "a")
    in_work = await take(busy, len(expected))
    await a_lease_passes(backend)
    for delivery in in_work:
        await busy.finish(delivery)
    assert await bus.lag("readers", topic) == 0
    markers = await publish_round(bus, topic, "marker")
    assert sorted(values(await take(busy, len(markers)))) == sorted(markers)


async def test_a_change_of_members_waits_for_what_is_in_work(backend: Backend) -> None:
    topic = await backend.new_topic()
    first_bus, second_bus = await backend.open(), await backend.open()
    first = await first_bus.subscribe("readers", [topic])
    expected = await publish_round(first_bus, topic, "a")
    in_work = await take(first, len(expected))
    second = await second_bus.subscribe("readers", [topic])
    waiting = asyncio.create_task(take(second, 1))
    await a_lease_passes(backend)
    for delivery in in_work:
        await first.finish(delivery)
    await publish_round(first_bus, topic, "b")
    assert values(await waiting)[0].startswith("b ")


async def test_members_that_come_go_and_die_in_the_middle_of_work_leave_no_gap_and_no_duplicate(
    backend: Backend,
) -> None:
    topic, out = await backend.new_topic(), await backend.new_topic()
    draw = random.Random(5)
    publisher = await backend.open()
    group = Group(lambda delivery: [Record(out, delivery.record.key, delivery.record.value)])
    members: list[tuple[Bus, Subscription]] = []

    async def join() -> None:
        bus = await backend.open()
        members.append((bus, await bus.subscribe("readers", [topic])))
        group.start(members[-1][1])

    async def leave(kill: bool) -> None:
        bus, member = members.pop(draw.randrange(len(members)))
        if kill:
            await group.stop(member)
            await backend.kill(bus)
        else:
            await member.close()

    await join()
    await join()
    expected: list[str] = []
    for step in ("join", "leave", "kill", "join", "join", "leave", "kill", "join"):
        for number in range(3):
            expected += await publish_round(publisher, topic, f"{len(expected):05} {number}")
        enough = min(len(group.finished) + 100, len(expected) - 50)

        async def got_on(enough: int = enough) -> bool:
            return len(group.finished) >= enough

        await group.until(got_on, "the group gets on")
        await (join() if step == "join" else leave(kill=step == "kill"))

    async def nothing_left() -> bool:
        return await publisher.lag("readers", topic) == 0

    await group.until(nothing_left, "every record is finished")

    outputs = [delivery async for delivery in publisher.read(out)]
    assert sorted(values(outputs)) == sorted(expected)
    for key in KEYS:
        of_key = [value for value in values(outputs) if value.endswith(f" {key}")]
        assert of_key == sorted(of_key)
