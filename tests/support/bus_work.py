"""Workers on a bus that tests give work to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from duologue.bus import Bus, Delivery, Record, RetryPolicy, Worker
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_REQUESTED

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
    bus: Bus, handle: Handle, *, concurrency: int = 8, retry: RetryPolicy = QUICK, share: float = 1.0
) -> AsyncIterator[asyncio.Event]:
    """A worker, for the time of the block; its stop signal."""
    worker = Worker(bus, TOPIC, GROUP, handle, concurrency=concurrency, retry=retry, dead_letter_share=share)
    async with at_work(worker) as stopping:
        yield stopping


@contextlib.asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[asyncio.Event]:
    """The worker works for the time of the block; its stop signal."""
    stopping = asyncio.Event()
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
