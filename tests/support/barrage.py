"""A consumer under thousands of mutated messages: its real handler on a real worker and bus, what became of each."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from google.protobuf.message import Message

from duologue.bus import Bus, Record, RetryPolicy, Worker
from duologue.bus.worker import ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON
from duologue.contracts.topics import Topic
from duologue.runtime.runtime import record_handler
from tests.support.eventually import eventually
from tests.support.mutation import NUMBER, Mutator

SEED = int(os.environ.get("DUOLOGUE_TEST_SEED", "20261123"))
COUNT = int(os.environ.get("DUOLOGUE_TEST_MESSAGES", "500"))
PATIENCE_SECONDS = 240.0
_BATCH = 1000
_RETRY = RetryPolicy(first=0.02, longest=0.1, deadline=0.2)
_OURS = {ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON}
# What a message refers to may still come. Nothing else of a message is a reason to try it again.
_MAY_STILL_COME = re.compile(r"FileNotFoundError: |dialogue \S+ is decided on, but has not come here yet")


Handle = Callable[[Record], Awaitable[Sequence[Record]]]


@dataclass(frozen=True)
class Consumer:
    """A group that reads a topic, as its service's `__main__` sets it up."""

    topic: Topic
    group: str
    handle: Callable[[Any], Awaitable[Sequence[Record]]]
    concurrency: int = 64

    @property
    def handle_record(self) -> Handle:
        return record_handler(self.topic, self.topic.message, self.handle)

    def worker(self, bus: Bus, handle: Handle) -> Worker:
        return Worker(bus, self.topic, self.group, handle, concurrency=self.concurrency, retry=_RETRY)

    async def has_nothing_left(self, bus: Bus) -> bool:
        group = self.topic.consumer_group(self.group)
        return not await bus.lag(group, self.topic.name) and not await bus.lag(group, self.topic.retry(self.group))


@dataclass
class Outcome:
    """What became of the records."""

    sent: Mapping[str, Record]
    letters: list[Record]
    retried: list[Record]
    failures: list[Mapping[str, Any]]
    seconds: float

    @property
    def done(self) -> int:
        return len(self.sent) - len(self.letters)

    def check(self) -> None:
        """Each record was done or has one dead letter, with its bytes and a reason; nothing failed unforeseen."""
        assert min(self.done, len(self.letters)) > len(self.sent) // 20  # else the mutations test little
        assert self.failures == []
        assert {_cause(record) for record in self.retried if not _MAY_STILL_COME.match(_cause(record))} == set()
        numbers = Counter(letter.headers[NUMBER] for letter in self.letters)
        assert not numbers or max(numbers.values()) == 1
        for letter in self.letters:
            sent = self.sent[letter.headers[NUMBER]]
            assert (letter.value, letter.key) == (sent.value, sent.key)
            assert letter.headers[REASON]
            kept = letter.headers.keys() - _OURS
            assert {name: letter.headers[name] for name in kept} == {name: sent.headers[name] for name in kept}

    def __str__(self) -> str:
        kinds = Counter(re.sub(r"[0-9a-f-]{8,}|'[^']*'|\d+", "_", _cause(letter))[:60] for letter in self.letters)
        top = "".join(f"\n    {times:5} {reason!a}" for reason, times in kinds.most_common(12))
        return f"{len(self.sent)} sent, {self.done} done, {len(self.letters)} dead in {self.seconds:.1f} s{top}"


async def barrage(
    bus: Bus, consumers: Sequence[Consumer], sound: Sequence[Message], count: int = COUNT
) -> dict[str, Outcome]:
    """Have the groups of one topic work off `count` mutated messages; what became of them is held to the promise."""
    topic = consumers[0].topic
    print(f"{topic.name}, DUOLOGUE_TEST_SEED={SEED}")
    records = Mutator(topic, sound, SEED).records(count)
    for start in range(0, count, _BATCH):
        await bus.publish(records[start : start + _BATCH])
    sent = {record.headers[NUMBER]: record for record in records}
    outcomes = {consumer.group: await _outcome(bus, consumer, sent) for consumer in consumers}
    for group, outcome in outcomes.items():
        print(f"{group}: {outcome}")
        outcome.check()
    return outcomes


async def _outcome(bus: Bus, consumer: Consumer, sent: Mapping[str, Record]) -> Outcome:
    started = time.monotonic()
    with structlog.testing.capture_logs() as logs:
        await work_off(bus, consumer, len(sent))
    return Outcome(
        sent,
        letters=await _everything_on(bus, consumer.topic.dead_letters(consumer.group)),
        retried=await _everything_on(bus, consumer.topic.retry(consumer.group)),
        failures=[entry for entry in logs if entry["event"] in ("handler failed", "lease lost")],
        seconds=time.monotonic() - started,
    )


async def work_off(bus: Bus, consumer: Consumer, count: int = 1) -> None:
    """Run the worker over `count` records and all that is tried again; what kills it fails the test."""
    handled = 0

    async def handle(record: Record) -> Sequence[Record]:
        nonlocal handled
        handled += 1
        return await consumer.handle_record(record)

    async def over() -> bool:  # asking for the lag all the time would take longer than the work
        return worker.done() or (handled >= count and await consumer.has_nothing_left(bus))

    stopping = asyncio.Event()
    worker = asyncio.create_task(consumer.worker(bus, handle).run(stopping, PATIENCE_SECONDS))
    await eventually(over, "every record is worked off", PATIENCE_SECONDS)
    stopping.set()
    await worker


async def _everything_on(bus: Bus, topic: str) -> list[Record]:
    return [delivery.record async for delivery in bus.read(topic)]


def _cause(record: Record) -> str:
    """The reason without how often it was tried."""
    return re.sub(r"^gave up after \d+ attempts: ", "", record.headers[REASON])
