"""A process on the embedded log, for tests that kill it: `bus_member.py FILE work SEED` or `... publish FIRST COUNT`.

`work` is a worker that repeats every record of INPUT on OUTPUT, with its seed in the header `by`. `publish` publishes
COUNT batches, each in one call, and prints the number of each once it is acknowledged.
"""

import asyncio
import random
import sys
from dataclasses import replace
from pathlib import Path

from duologue.bus import Record, RetryPolicy, Worker
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import DIALOGUE_REQUESTED

LEASE_SECONDS = 1.0
GROUP = "test"
INPUT = replace(DIALOGUE_REQUESTED, name="test.input.v1")
OUTPUT = "test.output.v1"
BATCH = 7


def batch(number: int) -> list[Record]:
    return [Record(INPUT.name, f"key-{(number + place) % 40}", f"{number}.{place}".encode()) for place in range(BATCH)]


async def publish(bus: EmbeddedBus, first: int, count: int) -> None:
    for number in range(first, first + count):
        await bus.publish(batch(number))
        print(number, flush=True)


async def work(bus: EmbeddedBus, seed: int) -> None:
    draw = random.Random(seed)

    async def answer(record: Record) -> list[Record]:
        await asyncio.sleep(draw.choice((0, 0, 0.002, 0.02)))  # what is in work ends out of order
        return [Record(OUTPUT, record.key, record.value, {"by": str(seed)})]

    worker = Worker(bus, INPUT, GROUP, answer, concurrency=8, retry=RetryPolicy())
    await worker.run(asyncio.Event(), drain_seconds=0)


async def main(file: str, role: str, *numbers: str) -> None:
    bus = await EmbeddedBus.open(Path(file), partitions=8, lease_seconds=LEASE_SECONDS)
    await {"publish": publish, "work": work}[role](bus, *map(int, numbers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
