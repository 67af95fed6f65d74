"""The worker loop on every bus: what may pass, what never will, and what people give it again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from google.protobuf.message import Message

from duologue.bus import Bus, Poison, Record, RetryPolicy, Transient, Worker
from duologue.bus import dead_letters as letters
from duologue.bus.codec import decode, encode
from duologue.bus.record import MOST_BYTES
from duologue.bus.worker import ATTEMPT, DEADLINE, ORIGIN, REASON
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_REQUESTED, TOPICS, Topic
from duologue.contracts.v1 import events_pb2
from duologue.telemetry import TRACEPARENT, trace_of
from tests.support.bus_backends import Backend
from tests.support.bus_contract import PATIENCE_SECONDS, all_is_done
from tests.support.eventually import eventually

GROUP = "roleplay"
# Field 1023, which no message has yet: a text.
LATER = b"\xfa\x3f\x05later"
QUICK = RetryPolicy(first=0.05, longest=0.4, deadline=60.0)

Handle = Callable[[Record], Awaitable[Sequence[Record]]]


@dataclass(frozen=True)
class Place:
    """A bus, and a topic of its own with all that belongs to it."""

    bus: Bus
    topic: Topic
    out: str

    @property
    def retry(self) -> str:
        return self.topic.retry(GROUP)

    @property
    def dead(self) -> str:
        return self.topic.dead_letters(GROUP)

    @contextlib.asynccontextmanager
    async def working(self, handle: Handle, retry: RetryPolicy = QUICK) -> AsyncIterator[None]:
        """A worker, for the time of the block."""
        stopping = asyncio.Event()
        worker = Worker(self.bus, self.topic, GROUP, handle, concurrency=8, retry=retry)
        task = asyncio.create_task(worker.run(stopping, PATIENCE_SECONDS))
        yield
        stopping.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await task

    async def arrived(self, topic: str, count: int) -> list[Record]:
        async def claim() -> list[Record]:
            found = await self.records(topic)
            return found if len(found) >= count else []

        return await eventually(claim, f"{count} records are on {topic}", PATIENCE_SECONDS)

    async def records(self, topic: str) -> list[Record]:
        return [delivery.record async for delivery in self.bus.read(topic)]

    async def all_is_done(self) -> None:
        for name in (self.topic.name, self.retry):
            await all_is_done(self.bus, self.topic.consumer_group(GROUP), name)


@pytest.fixture
async def place(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Place:
    topic = replace(DIALOGUE_REQUESTED, name=await backend.new_topic())
    out = f"{topic.name}.out"
    await backend.make([out, topic.retry(GROUP), topic.dead_letters(GROUP), letters.REPLAYS])
    monkeypatch.setattr(letters, "TOPICS", (topic,))
    return Place(await backend.open(), topic, out)


def sent(place: Place) -> Record:
    return Record(place.topic.name, "key", b"\x00\xff not text", {"ce_id": "1", "naïve": "größer"})


async def test_what_may_pass_is_tried_again_after_growing_pauses_as_it_came(place: Place) -> None:
    tries: list[tuple[float, Record]] = []

    async def handle(record: Record) -> list[Record]:
        tries.append((time.time(), record))
        if record.key == "key" and len(tries) < 4:
            raise Transient("the model server is full")
        return [Record(place.out, record.key, record.value)]

    await place.bus.publish([sent(place)])
    async with place.working(handle):
        await place.arrived(place.out, 1)
        await place.all_is_done()
    first, *again = [record for _, record in tries]
    assert first == sent(place)
    assert [record.headers[ATTEMPT] for record in again] == ["2", "3", "4"]
    assert len({record.headers[DEADLINE] for record in again}) == 1
    assert {record.headers[REASON] for record in again} == {"the model server is full"}
    (origin,) = {record.headers[ORIGIN] for record in again}
    assert origin.startswith(f"{place.topic.name}/")
    for (failed_at, _), (tried_at, record), longest in zip(tries, tries[1:], (0.05, 0.1, 0.2), strict=False):
        assert tried_at >= record.not_before >= failed_at + longest / 2
        assert (record.key, record.value) == (first.key, first.value)
        assert first.headers.items() <= record.headers.items()
    assert await place.records(place.dead) == []


async def test_what_waits_for_another_attempt_holds_up_nothing_behind_it(place: Place) -> None:
    async def handle(record: Record) -> list[Record]:
        if record.value == b"late" and ATTEMPT not in record.headers:
            raise Transient("not yet", retry_after=3600)
        return [Record(place.out, record.key, record.value)]

    await place.bus.publish([Record(place.topic.name, "key", value) for value in (b"late", b"1", b"2", b"3")])
    async with place.working(handle, replace(QUICK, longest=3600, deadline=7200)):
        found = await place.arrived(place.out, 3)
    assert [record.value for record in found] == [b"1", b"2", b"3"]
    assert len(await place.records(place.retry)) == 1


async def test_poison_and_what_ran_out_of_time_are_dead_letters_with_reason_and_origin(place: Place) -> None:
    async def handle(record: Record) -> list[Record]:
        if record.key == "poison":
            raise Poison("not a message of this version")
        raise Transient("still full")

    await place.bus.publish([replace(sent(place), key=key) for key in ("poison", "slow")])
    async with place.working(handle, RetryPolicy(first=0.01, longest=0.02, deadline=0.1)):
        await place.arrived(place.dead, 2)
        await place.all_is_done()
    found = {letter.key: letter async for letter in letters.dead_letters(place.bus)}
    assert found["poison"].reason == "not a message of this version"
    assert found["slow"].reason.startswith("gave up after")
    places = {delivery.record.key: delivery.place async for delivery in place.bus.read(place.topic.name)}
    assert {key: letter.origin for key, letter in found.items()} == places
    assert {letter.delivery.record.value for letter in found.values()} == {sent(place).value}


async def test_an_outcome_that_no_bus_takes_is_a_dead_letter(place: Place) -> None:
    async def handle(record: Record) -> list[Record]:
        return [Record(place.out, record.key, bytes(MOST_BYTES + 1))]

    await place.bus.publish([sent(place)])
    async with place.working(handle):
        (letter,) = await place.arrived(place.dead, 1)
        await place.all_is_done()
    assert "more than" in letter.headers[REASON]
    assert await place.records(place.out) == []


async def test_a_dead_letter_is_replayed_to_its_group_once_however_often_it_is_asked_for(place: Place) -> None:
    seen: list[Record] = []

    async def refuse(_: Record) -> list[Record]:
        raise Poison("no workflow")

    async def take(record: Record) -> list[Record]:
        seen.append(record)
        return [Record(place.out, record.key, record.value)]

    await place.bus.publish([sent(place)])
    async with place.working(refuse):
        await place.arrived(place.dead, 1)
    found = [letter async for letter in letters.dead_letters(place.bus)]
    assert [await letters.replay(place.bus, found) for _ in range(2)] == [1, 0]
    async with place.working(take):
        await place.arrived(place.out, 1)
        await place.all_is_done()
    assert [record.value for record in seen] == [sent(place).value]
    assert sent(place).headers.items() <= seen[0].headers.items()
    assert [letter.replayed async for letter in letters.dead_letters(place.bus)] == [True]


async def test_a_newer_minor_version_is_read_and_what_cannot_be_read_is_put_aside_untouched(place: Place) -> None:
    messages = {topic.name: topic for topic in TOPICS}
    read: dict[str, Message] = {}
    tried: set[str] = set()

    async def handle(record: Record) -> list[Record]:
        message = decode(messages[record.key].message, record)
        if record.key not in tried:
            tried.add(record.key)
            raise Transient("another time")
        read[record.key] = message
        return []

    for name, topic in messages.items():
        sound = replace(encode(topic, topic.example, "test"), topic=place.topic.name, key=name)
        newer = replace(sound, value=sound.value + LATER)
        other = replace(sound, headers={**sound.headers, "ce_type": "duologue.v2.Other"})
        broken = replace(sound, value=b"\xff")
        await place.bus.publish([other, newer, broken])
    async with place.working(handle):
        dead = await place.arrived(place.dead, 2 * len(messages))
        await place.all_is_done()
    for name, topic in messages.items():
        assert read[name].SerializeToString(deterministic=True) == (
            topic.example.SerializeToString(deterministic=True) + LATER  # maps stand in any order otherwise
        )
        other, broken = [letter for letter in dead if letter.key == name]
        full_name = topic.message.DESCRIPTOR.full_name
        assert other.headers[REASON] == f"a duologue.v2.Other, this version reads {full_name}"
        assert other.value == topic.example.SerializeToString(deterministic=True)
        assert broken.headers[REASON].startswith(f"not a {full_name}: ")
        assert broken.value == b"\xff"


async def test_what_becomes_of_a_record_stays_in_its_trace(place: Place) -> None:
    """Be it tried again, put aside, given again or made by a service that records no traces itself."""
    trace = f"00-{trace_of('a'):032x}-00f067aa0ba902b7-01"
    out = replace(DIALOGUE_GENERATED, name=place.out)
    sees: list[str] = []

    async def handle(record: Record) -> list[Record]:
        sees.append(record.headers[TRACEPARENT])
        if len(sees) == 1:
            raise Transient("another time")
        if len(sees) == 2:
            raise Poison("never")
        return [encode(out, events_pb2.DialogueGenerated(dialogue_id=key), "test") for key in ("a", "b")]

    await place.bus.publish(
        [replace(encode(place.topic, place.topic.example, "test"), key="a", headers={TRACEPARENT: trace})]
    )
    async with place.working(handle):
        (buried,) = await place.arrived(place.dead, 1)
        await letters.replay(place.bus, [letter async for letter in letters.dead_letters(place.bus)])
        caused = {record.key: record for record in await place.arrived(place.out, 2)}
    assert sees == [trace] * 3
    assert buried.headers[TRACEPARENT] == trace
    assert caused["a"].headers[TRACEPARENT] == trace
    assert TRACEPARENT not in caused["b"].headers  # it is of another dialogue, which nobody records
