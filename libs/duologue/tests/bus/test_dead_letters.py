"""Dead letters are listed with their reasons, and replayed once."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from duologue.bus import Poison, Record, RetryPolicy, Worker
from duologue.bus.dead_letters import DeadLetter, dead_letters, replay
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.worker import ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON
from duologue.contracts.topics import DIALOGUE_REQUESTED, DIALOGUE_SCORED, Topic


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db", partitions=4)
    yield bus
    await bus.close()


async def letters(bus: EmbeddedBus) -> list[DeadLetter]:
    return [letter async for letter in dead_letters(bus)]


async def work(bus: EmbeddedBus, topic: Topic, group: str, count: int, refusal: str = "") -> list[Record]:
    """Have a worker handle `count` records, refusing each with `refusal`; the records as it was given them."""
    seen: list[Record] = []
    stopping = asyncio.Event()

    async def handle(record: Record) -> list[Record]:
        seen.append(record)
        if len(seen) >= count:
            stopping.set()
        if refusal:
            raise Poison(refusal)
        return []

    async with asyncio.timeout(20):
        await Worker(bus, topic, group, handle, concurrency=1, retry=RetryPolicy()).run(stopping, 20)
    return seen


async def test_no_topics_no_letters(bus: EmbeddedBus) -> None:
    assert await letters(bus) == []


async def test_letters_of_all_topics_and_groups_are_listed_with_reason_and_origin(bus: EmbeddedBus) -> None:
    started = time.time()
    await bus.publish([Record(DIALOGUE_REQUESTED.name, f"key-{number}", b"\xff") for number in range(3)])
    await bus.publish([Record(DIALOGUE_SCORED.name, "scored", b"\xfe")])
    await work(bus, DIALOGUE_REQUESTED, "roleplay", 3, "no workflow")
    await work(bus, DIALOGUE_SCORED, "filtering", 1, "no scores")
    await work(bus, DIALOGUE_SCORED, "campaign", 1, "no campaign")
    places = {delivery.record.key: delivery.place async for delivery in bus.read(DIALOGUE_REQUESTED.name)}
    places |= {delivery.record.key: delivery.place async for delivery in bus.read(DIALOGUE_SCORED.name)}
    found = await letters(bus)
    assert sorted((letter.topic, letter.group, letter.key, letter.reason) for letter in found) == [
        (DIALOGUE_REQUESTED.name, "roleplay", "key-0", "no workflow"),
        (DIALOGUE_REQUESTED.name, "roleplay", "key-1", "no workflow"),
        (DIALOGUE_REQUESTED.name, "roleplay", "key-2", "no workflow"),
        (DIALOGUE_SCORED.name, "campaign", "scored", "no campaign"),
        (DIALOGUE_SCORED.name, "filtering", "scored", "no scores"),
    ]
    assert len({letter.id for letter in found}) == 5
    for letter in found:
        assert letter.origin == places[letter.key]
        assert letter.id.startswith(f"{letter.topic}/{letter.group}/")
        assert started <= letter.failed_at <= time.time()
        assert not letter.replayed


async def test_a_replayed_letter_goes_to_its_group_alone_as_it_came(bus: EmbeddedBus) -> None:
    sent = Record(DIALOGUE_SCORED.name, "key", b"\x00\xff", {"ce_id": "1", ATTEMPT: "7", DEADLINE: "1.5"})
    await bus.publish([sent])
    await work(bus, DIALOGUE_SCORED, "filtering", 1, "no scores")
    await work(bus, DIALOGUE_SCORED, "campaign", 1)
    (letter,) = await letters(bus)
    assert await replay(bus, [letter]) == 1
    assert await bus.lag(DIALOGUE_SCORED.consumer_group("campaign"), DIALOGUE_SCORED.retry("campaign")) == 0
    (again,) = await work(bus, DIALOGUE_SCORED, "filtering", 1)
    assert (again.key, again.value) == (sent.key, sent.value)
    assert again.headers == {"ce_id": "1", ORIGIN: letter.origin}
    assert not {ATTEMPT, DEADLINE, REASON, FAILED_AT} & set(again.headers)


async def test_a_letter_is_replayed_once_however_often_it_is_asked_for(bus: EmbeddedBus) -> None:
    await bus.publish([Record(DIALOGUE_REQUESTED.name, f"{number}", b"") for number in range(2)])
    await work(bus, DIALOGUE_REQUESTED, "roleplay", 2, "no workflow")
    first, second = await letters(bus)
    assert [await replay(bus, [first]), await replay(bus, [first])] == [1, 0]
    assert [(letter.id, letter.replayed) for letter in await letters(bus)] == [(first.id, True), (second.id, False)]
    assert [await replay(bus, [letter]) for letter in await letters(bus)] == [0, 1]
    retried = [delivery.record.key async for delivery in bus.read(DIALOGUE_REQUESTED.retry("roleplay"))]
    assert sorted(retried) == ["0", "1"]


async def test_all_letters_are_replayed_but_those_that_were(bus: EmbeddedBus) -> None:
    await bus.publish([Record(DIALOGUE_REQUESTED.name, f"{number}", b"") for number in range(5)])
    await work(bus, DIALOGUE_REQUESTED, "roleplay", 5, "no workflow")
    found = await letters(bus)
    await replay(bus, [found[2]])
    assert await replay(bus, [*found, *found]) == 4
    assert await replay(bus, found) == 0
    retried = [delivery.record.key async for delivery in bus.read(DIALOGUE_REQUESTED.retry("roleplay"))]
    assert sorted(retried) == ["0", "1", "2", "3", "4"]


async def test_a_letter_that_fails_again_is_a_new_letter_with_its_first_origin(bus: EmbeddedBus) -> None:
    await bus.publish([Record(DIALOGUE_REQUESTED.name, "key", b"\xff")])
    await work(bus, DIALOGUE_REQUESTED, "roleplay", 1, "no workflow")
    (letter,) = await letters(bus)
    await replay(bus, [letter])
    await work(bus, DIALOGUE_REQUESTED, "roleplay", 1, "still no workflow")
    old, new = await letters(bus)
    assert (old.id, old.replayed, old.reason) == (letter.id, True, "no workflow")
    assert (new.replayed, new.reason, new.origin) == (False, "still no workflow", letter.origin)
    assert await replay(bus, [new]) == 1


async def test_a_letter_that_somebody_else_wrote_can_be_listed(bus: EmbeddedBus) -> None:
    name = DIALOGUE_REQUESTED.dead_letters("roleplay")
    await bus.publish([Record(name, "key", b""), Record(name, "key", b"", {FAILED_AT: "yesterday"})])
    assert [(letter.reason, letter.origin, letter.failed_at) for letter in await letters(bus)] == [("", "", 0.0)] * 2
