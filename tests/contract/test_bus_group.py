"""Members of a group that come, go, stand still and die."""

import asyncio
import random

from duologue.bus import Bus, Record, Subscription
from tests.support.bus_backends import Backend
from tests.support.bus_contract import (
    KEYS,
    Group,
    all_is_done,
    publish_round,
    record,
    take,
    values,
    work_off,
)
from tests.support.eventually import eventually

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
    await all_is_done(heir_bus, "readers", topic)


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
    await all_is_done(bus, "readers", topic)
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


async def test_members_know_how_far_they_are_behind_and_together_how_far_the_group_is(backend: Backend) -> None:
    topic, retries = await backend.new_topic(), await backend.new_topic()
    buses = [await backend.open(), await backend.open()]
    expected = await publish_round(buses[0], topic, "a")
    members = [await bus.subscribe("readers", [topic, retries]) for bus in buses]

    async def behind() -> int:
        lags = [await member.lag() for member in members]
        assert [set(lag) for lag in lags] == [{topic, retries}] * 2
        return sum(lag[topic] for lag in lags)

    async def all_are_known() -> bool:
        return await behind() >= len(expected)

    await eventually(all_are_known, "each record is somebody's to do")
    group = Group()
    group.start(*members)
    await group.finish(expected)

    async def none_is_left() -> bool:
        return await behind() == 0

    await eventually(none_is_left, "nobody is behind")
