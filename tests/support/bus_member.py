"""A process on a bus, for tests that kill it: `bus_member.py URL NAME work SEED` or `... publish FIRST COUNT`.

`work` is a worker that repeats every record of the test's input on its output, with its seed in the header `by`.
`publish` publishes COUNT batches, each in one call, and prints the number of each once it is acknowledged.
"""

import asyncio
import random
import sys
from dataclasses import replace
from pathlib import Path

from duologue.bus import Bus, Record, RetryPolicy, Worker
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.kafka.bus import KafkaBus
from duologue.bus.kafka.options import KafkaOptions
from duologue.contracts.topics import DIALOGUE_REQUESTED, Topic

LEASE_SECONDS = 1.0
SESSION_SECONDS = 3.0
GROUP = "test"
BATCH = 7


def input_of(name: str) -> Topic:
    return replace(DIALOGUE_REQUESTED, name=f"test.{name}.input.v1")


def output_of(name: str) -> str:
    return f"test.{name}.output.v1"


def batch(name: str, number: int) -> list[Record]:
    topic = input_of(name).name
    return [Record(topic, f"key-{(number + place) % 40}", f"{number}.{place}".encode()) for place in range(BATCH)]


async def open_quick(url: str) -> Bus:
    """With leases that a test can wait for."""
    kind, _, place = url.partition("://")
    if kind == "kafka":
        options = KafkaOptions(session_seconds=SESSION_SECONDS, handover_seconds=5.0)
        return await KafkaBus.open(place.split(","), options)
    return await EmbeddedBus.open(Path(place[1:]), partitions=8, lease_seconds=LEASE_SECONDS)


async def publish(bus: Bus, name: str, first: int, count: int) -> None:
    for number in range(first, first + count):
        await bus.publish(batch(name, number))
        print(number, flush=True)


async def work(bus: Bus, name: str, seed: int) -> None:
    draw = random.Random(seed)

    async def answer(record: Record) -> list[Record]:
        await asyncio.sleep(draw.choice((0, 0, 0.002, 0.02)))  # what is in work ends out of order
        return [Record(output_of(name), record.key, record.value, {"by": str(seed)})]

    worker = Worker(bus, input_of(name), GROUP, answer, concurrency=8, retry=RetryPolicy())
    await worker.run(asyncio.Event(), drain_seconds=0)


async def main(url: str, name: str, role: str, *numbers: str) -> None:
    bus = await open_quick(url)
    await {"publish": publish, "work": work}[role](bus, name, *map(int, numbers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
