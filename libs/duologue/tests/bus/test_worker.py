"""The worker loop on a real embedded log."""

import asyncio
import contextlib
import math
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.bus import Bus, Delivery, LeaseLost, Poison, Record, RetryPolicy, Subscription, Transient, Worker
from duologue.bus.codec import decode
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.worker import ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON, number_in
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_REQUESTED
from duologue.contracts.v1.events_pb2 import DialogueRequested
from tests.support.eventually import eventually

GROUP = "roleplay"
TOPIC = DIALOGUE_REQUESTED
OUT = DIALOGUE_GENERATED.name
RETRY = TOPIC.retry(GROUP)
DEAD = TOPIC.dead_letters(GROUP)
PATIENCE_SECONDS = 20.0
# Pauses that a test can wait for, and a deadline that none of them meets.
QUICK = RetryPolicy(first=0.02, longest=0.1, deadline=60.0)
SHORT = RetryPolicy(first=0.01, longest=0.02, deadline=0.15)

Handle = Callable[[Record], Awaitable[Sequence[Record]]]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db", partitions=4)
    yield bus
    await bus.close()


def requests(count: int) -> list[Record]:
    return [Record(TOPIC.name, f"key-{number}", str(number).encode()) for number in range(count)]


def echo(record: Record) -> list[Record]:
    return [replace(record, topic=OUT, headers={})]


async def run(bus: Bus, handle: Handle, stopping: asyncio.Event, drain_seconds: float = PATIENCE_SECONDS) -> None:
    worker = Worker(bus, TOPIC, GROUP, handle, concurrency=4, retry=QUICK)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await worker.run(stopping, drain_seconds)


@contextlib.asynccontextmanager
async def working(
    bus: Bus, handle: Handle, *, concurrency: int = 8, retry: RetryPolicy = QUICK
) -> AsyncIterator[asyncio.Event]:
    """A worker, for the time of the block; its stop signal."""
    stopping = asyncio.Event()
    worker = Worker(bus, TOPIC, GROUP, handle, concurrency=concurrency, retry=retry)
    task = asyncio.create_task(worker.run(stopping, PATIENCE_SECONDS))
    yield stopping
    stopping.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await task


async def arrived(bus: Bus, topic: str, count: int) -> list[Delivery]:
    """The first `count` records of a topic, waited for as a group of its own."""
    taken: list[Delivery] = []
    watcher = await bus.subscribe("watcher", [topic])
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(taken) < count:
            taken += await watcher.fetch(count - len(taken))
    await watcher.close()
    return taken


async def everything_on(bus: Bus, topic: str) -> list[Record]:
    return [delivery.record async for delivery in bus.read(topic)]


# Working


async def test_a_record_becomes_what_the_handler_makes_of_it_and_is_done(bus: EmbeddedBus) -> None:
    async def handle(record: Record) -> list[Record]:
        return [Record(OUT, record.key, record.value + b" answered"), Record(OUT, record.key, b"and more")]

    await bus.publish(requests(1))
    async with working(bus, handle):
        answers = [delivery.record.value for delivery in await arrived(bus, OUT, 2)]
    assert answers == [b"0 answered", b"and more"]
    assert await bus.lag(GROUP, TOPIC.name) == 0


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
    assert await bus.lag(GROUP, TOPIC.name) == 0
    assert await bus.lag(GROUP, RETRY) == 0


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
        {ATTEMPT: "\N{PARTY POPPER}", DEADLINE: "\x00", REASON: "\ud800", ORIGIN: "", FAILED_AT: "x"},
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
        self.publish, self.read, self.topics = real.publish, real.read, real.topics
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
    assert await bus.lag(GROUP, TOPIC.name) == 3

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
