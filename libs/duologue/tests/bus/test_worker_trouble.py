"""The worker loop on a real embedded log: what may pass, outages, and what never will."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.bus import Poison, Record, RetryPolicy, Transient, Worker
from duologue.bus.codec import decode
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.worker import ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON, number_in
from duologue.contracts.v1.events_pb2 import DialogueRequested
from tests.support.bus_work import (
    DEAD,
    GROUP,
    OUT,
    PATIENCE_SECONDS,
    QUICK,
    RETRY,
    SHORT,
    TOPIC,
    arrived,
    echo,
    everything_on,
    requests,
    working,
)
from tests.support.eventually import eventually

# What may pass


async def test_what_may_pass_is_tried_again_later_with_its_bytes_and_headers_untouched(bus: EmbeddedBus) -> None:
    tries: list[tuple[float, Record]] = []

    async def handle(record: Record) -> list[Record]:
        tries.append((time.time(), record))
        if len(tries) < 4:
            raise Transient("the model server is full")
        return echo(record)

    sent = Record(TOPIC.name, "key", b"\x00\xff not text", {"ce_id": "1", "naïve": "größer"})
    await bus.publish([sent])
    async with working(bus, handle):
        await arrived(bus, OUT, 1)

    first, *again = [record for _, record in tries]
    assert first == sent
    assert [record.headers[ATTEMPT] for record in again] == ["2", "3", "4"]
    assert len({record.headers[DEADLINE] for record in again}) == 1
    deadline = float(again[0].headers[DEADLINE])
    assert tries[0][0] <= deadline - QUICK.deadline <= tries[1][0]
    (origin,) = {record.headers[ORIGIN] for record in again}
    assert origin.startswith(f"{TOPIC.name}/")
    for (failed_at, _), (tried_at, record), longest in zip(tries, tries[1:], (0.02, 0.04, 0.08), strict=False):
        assert record.not_before >= failed_at + longest / 2
        assert tried_at >= record.not_before
        assert record.headers[REASON] == "the model server is full"
        assert (record.topic, record.key, record.value) == (RETRY, sent.key, sent.value)
        assert sent.headers.items() <= record.headers.items()
    assert await everything_on(bus, DEAD) == []


async def test_the_time_that_a_refusal_names_is_kept(bus: EmbeddedBus) -> None:
    tried_at: list[float] = []

    async def handle(record: Record) -> list[Record]:
        tried_at.append(time.time())
        if len(tried_at) == 1:
            raise Transient("come back in half a second", retry_after=0.5)
        return echo(record)

    await bus.publish(requests(1))
    async with working(bus, handle, retry=replace(QUICK, longest=1.0)):
        await arrived(bus, OUT, 1)
    assert tried_at[1] - tried_at[0] >= 0.5


async def test_a_refusal_for_longer_than_the_longest_pause_is_asked_again_after_that(bus: EmbeddedBus) -> None:
    tries = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Transient("come back tomorrow", retry_after=86_400)
        return echo(record)

    await bus.publish(requests(1))
    async with working(bus, handle):
        await arrived(bus, OUT, 1)
    assert await everything_on(bus, DEAD) == []


async def test_after_its_deadline_a_record_is_a_dead_letter_with_reason_and_origin(bus: EmbeddedBus) -> None:
    tries = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal tries
        tries += 1
        raise Transient("still full")

    sent = Record(TOPIC.name, "key", b"\x00\xff not text", {"ce_id": "1"})
    await bus.publish([sent])
    started = time.time()
    async with working(bus, handle, retry=SHORT):
        (letter,) = await arrived(bus, DEAD, 1)
    headers = letter.record.headers
    assert tries >= 2
    assert headers[REASON] == f"gave up after {tries} attempts: still full"
    (place,) = [delivery.place async for delivery in bus.read(TOPIC.name)]
    assert headers[ORIGIN] == place
    assert started <= float(headers[FAILED_AT]) <= time.time()
    assert (letter.record.key, letter.record.value, headers["ce_id"]) == ("key", sent.value, "1")
    assert letter.record.not_before == 0
    assert await bus.lag(TOPIC.consumer_group(GROUP), TOPIC.name) == 0
    assert await bus.lag(TOPIC.consumer_group(GROUP), RETRY) == 0


async def test_an_unexpected_error_is_logged_with_its_stack_and_tried_again(bus: EmbeddedBus) -> None:
    tries = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError("a mistake of ours")
        return echo(record)

    await bus.publish(requests(1))
    with structlog.testing.capture_logs() as logs:
        async with working(bus, handle):
            await arrived(bus, OUT, 1)
    (failed,) = [entry for entry in logs if entry["event"] == "handler failed"]
    assert failed["exc_info"]
    assert failed["key"] == "key-0"
    (again,) = await everything_on(bus, RETRY)
    assert again.headers[REASON] == "ZeroDivisionError: a mistake of ours"


async def test_a_call_that_is_cancelled_under_the_handler_is_tried_again(bus: EmbeddedBus) -> None:
    tries = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal tries
        tries += 1
        if tries == 1:
            call = asyncio.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(call.cancel)
            await call
        return echo(record)

    await bus.publish(requests(1))
    async with working(bus, handle):
        await arrived(bus, OUT, 1)
    assert tries == 2


# While nothing goes well


async def test_an_outage_of_any_length_costs_no_record_its_attempts(bus: EmbeddedBus) -> None:
    tried: list[Record] = []
    is_down = True

    async def handle(record: Record) -> list[Record]:
        tried.append(record)
        if is_down:
            raise Transient("connection refused")
        return echo(record)

    started = time.time()

    async def longer_than_the_deadline() -> bool:
        return len(tried) > 30 and time.time() > started + 2 * SHORT.deadline

    await bus.publish(requests(20))
    async with working(bus, handle, retry=SHORT):
        await eventually(longer_than_the_deadline, "the outage outlasts the deadline")
        is_down = False
        await arrived(bus, OUT, 20)
    assert await everything_on(bus, DEAD) == []
    counted = [record for record in await everything_on(bus, RETRY) if ATTEMPT in record.headers]
    assert len({record.key for record in counted}) < 5  # before it was seen to be an outage
    assert {record.headers[ATTEMPT] for record in counted} == {"2"}


async def test_a_stop_during_an_outage_leaves_what_waits_to_others_at_once(bus: EmbeddedBus) -> None:
    failing = asyncio.Event()
    failed = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal failed
        failed += 1
        if failed == 5:
            failing.set()
        raise Transient("connection refused")

    async def handle_well(record: Record) -> list[Record]:
        return echo(record)

    stopping = asyncio.Event()
    patient = RetryPolicy(first=3600, longest=3600, deadline=86_400)
    worker = Worker(bus, TOPIC, GROUP, handle, concurrency=8, retry=patient)
    await bus.publish(requests(20))
    stopped = asyncio.create_task(worker.run(stopping, drain_seconds=3600))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await failing.wait()
        stopping.set()
        await stopped
    left = 20 - len(await everything_on(bus, RETRY))
    async with working(bus, handle_well):
        await arrived(bus, OUT, left)


# What never will


async def test_poison_is_a_dead_letter_at_once(bus: EmbeddedBus) -> None:
    tries = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal tries
        tries += 1
        raise Poison("unknown role 9")

    await bus.publish(requests(1))
    async with working(bus, handle):
        (letter,) = await arrived(bus, DEAD, 1)
    assert tries == 1
    assert letter.record.headers[REASON] == "unknown role 9"
    assert letter.record.value == b"0"
    assert await everything_on(bus, RETRY) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xff\xff\xff", "not a duologue.v1.DialogueRequested"),
        (b"", "a duologue.v1.DialogueRequested without dialogue_id"),
        (b"\xf8\x3f\x01", "a duologue.v1.DialogueRequested without dialogue_id"),  # a field that nobody knows
        (TOPIC.example.SerializeToString()[:-1], "not a duologue.v1.DialogueRequested"),
    ],
    ids=["no message", "empty", "another message", "cut off"],
)
async def test_bytes_that_are_no_message_are_a_dead_letter_at_once(bus: EmbeddedBus, value: bytes, reason: str) -> None:
    async def handle(record: Record) -> list[Record]:
        decode(DialogueRequested, record)
        return echo(record)

    good = Record(TOPIC.name, "key", TOPIC.example.SerializeToString())
    await bus.publish([good, Record(TOPIC.name, "key", value), good])
    async with working(bus, handle):
        await arrived(bus, OUT, 2)
        (letter,) = await arrived(bus, DEAD, 1)
    assert letter.record.headers[REASON].startswith(reason)
    assert letter.record.value == value


@pytest.mark.parametrize(
    "garbage",
    [
        *({ATTEMPT: text} for text in ("x", "", "-3", "1e9", "nan", "inf", "-inf", "9" * 5000, "1e400")),
        *({DEADLINE: text} for text in ("x", "", "nan", "inf", "-inf", "1e300", "tomorrow")),
        {ATTEMPT: "\N{PARTY POPPER}", DEADLINE: "\x00", REASON: "\ufffd", ORIGIN: "", FAILED_AT: "x"},
    ],
    ids=lambda headers: " ".join(f"{name[9:]}={text[:8]!a}" for name, text in headers.items()),
)
async def test_garbage_in_our_own_headers_neither_kills_the_worker_nor_retries_for_ever(
    bus: EmbeddedBus, garbage: dict[str, str]
) -> None:
    async def handle(record: Record) -> list[Record]:
        raise Transient("full")

    await bus.publish([Record(TOPIC.name, "key", b"value", garbage)])
    async with working(bus, handle, retry=replace(SHORT, deadline=0.04)):
        (letter,) = await arrived(bus, DEAD, 1)
    assert letter.record.value == b"value"
    assert letter.record.headers[REASON].endswith("full")


@given(st.text() | st.floats().map(str) | st.integers().map(str))
@example("9" * 5000)
def test_a_header_is_a_finite_number_or_not_there(text: str) -> None:
    assert math.isfinite(number_in({"name": text}, "name", 7.5))
    assert number_in({}, "name", 7.5) == 7.5


async def test_a_topic_of_which_too_much_is_dead_is_left_to_people(bus: EmbeddedBus) -> None:
    handled = 0

    async def handle(record: Record) -> list[Record]:
        nonlocal handled
        handled += 1
        raise Poison("not a message of this version")

    await bus.publish(requests(100))
    with structlog.testing.capture_logs() as logs:
        async with working(bus, handle, share=0.5):
            await eventually(lambda: said_once(logs, "consumer stopped"), "the worker says so", PATIENCE_SECONDS)
            before = handled
            (left,) = [await bus.lag(TOPIC.consumer_group(GROUP), TOPIC.name)]
            await bus.publish(requests(5))
            heir = await bus.subscribe(TOPIC.consumer_group(GROUP), [TOPIC.name])  # nobody holds the partitions
            assert len(await heir.fetch(10)) > 0
            assert handled == before < 100
            assert left == 100 - before
            await heir.close()


async def test_a_few_dead_letters_among_many_records_stop_nothing(bus: EmbeddedBus) -> None:
    async def handle(record: Record) -> list[Record]:
        if int(record.value) % 3 == 0:
            raise Poison("every third")
        return echo(record)

    await bus.publish(requests(150))
    async with working(bus, handle, share=0.5):
        await arrived(bus, OUT, 100)
        await arrived(bus, DEAD, 50)


async def said_once(logs: Sequence[Mapping[str, Any]], words: str) -> bool:
    return sum(words in entry["event"] for entry in logs) == 1
