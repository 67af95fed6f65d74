"""Real processes on one embedded log, killed and stopped at random moments: no record is lost, none comes twice."""

import contextlib
import itertools
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from duologue.bus.embedded import EmbeddedBus
from tests.support import bus_member
from tests.support.eventually import eventually

BATCHES = 160
KILLS = 9


class Processes:
    """Starts and kills members; what they say on standard error is kept beside the log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, bus_member.__file__, self._folder / "bus.db", *map(str, arguments)]
        with (self._folder / f"{len(self._all)}.out").open("w") as out, (self._folder / "errors").open("a") as errors:
            process = subprocess.Popen(command, stdout=out, stderr=errors, text=True)
        self._all.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()

    def acknowledged(self) -> list[int]:
        """Numbers of the batches that publishers were told are durable. A line that was cut off does not count."""
        texts = [(self._folder / f"{number}.out").read_text() for number in range(len(self._all))]
        lines = [line for text in texts for line in text.splitlines(keepends=True)]
        return [int(line) for line in lines if line.endswith("\n") and line.strip().isdigit()]

    def errors(self) -> str:
        return (self._folder / "errors").read_text()

    def close(self) -> None:
        for process in self._all:
            self.kill(process)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    processes.close()


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


async def answers(bus: EmbeddedBus) -> int:
    return await bus.lag("nobody", bus_member.OUTPUT)


async def answers_by(bus: EmbeddedBus, seed: int) -> int:
    return [delivery.record.headers["by"] async for delivery in bus.read(bus_member.OUTPUT)].count(str(seed))


async def everything_finished(bus: EmbeddedBus) -> bool:
    return await bus.lag(bus_member.GROUP, bus_member.INPUT.name) == 0


async def assert_each_was_answered_once(bus: EmbeddedBus) -> set[int]:
    """Numbers of the batches that were published, each of them whole."""
    published = Counter([delivery.record.value async for delivery in bus.read(bus_member.INPUT.name)])
    answered = Counter([delivery.record.value async for delivery in bus.read(bus_member.OUTPUT)])
    numbers = {int(value.split(b".")[0]) for value in published}
    assert published == Counter(record.value for number in numbers for record in bus_member.batch(number))
    assert answered == published
    return numbers


@pytest.mark.parametrize("seed", [20261122])
async def test_processes_killed_at_any_moment_lose_nothing_and_repeat_nothing(
    processes: Processes, bus: EmbeddedBus, seed: int
) -> None:
    draw = random.Random(seed)
    workers = [processes.start("work", seed + number) for number in range(3)]
    publisher = processes.start("publish", 0, BATCHES)

    for kill in range(KILLS):
        enough = await answers(bus) + draw.randrange(20, 100)

        async def got_on(enough: int = enough, publisher: subprocess.Popen[str] = publisher) -> bool:
            assert all(worker.poll() is None for worker in workers), processes.errors()
            return await answers(bus) >= enough or publisher.poll() == 0

        await eventually(got_on, f"the workers get on after {kill} kills")
        if kill % 4 == 1 and publisher.poll() is None:
            processes.kill(publisher)
            begun = max(processes.acknowledged(), default=-1) + 1
            # The batch after the last acknowledged one may be there or not; it is left as it is.
            publisher = processes.start("publish", begun + 1, BATCHES - begun - 1)
        else:
            victim = draw.randrange(len(workers))
            processes.kill(workers[victim])
            workers[victim] = processes.start("work", seed + 100 + kill)

    async def published_all() -> bool:
        return publisher.poll() == 0

    await eventually(published_all, "everything is published")
    await eventually(partial(everything_finished, bus), "everything is finished")
    numbers = await assert_each_was_answered_once(bus)
    assert set(processes.acknowledged()) <= numbers
    assert len(numbers) > BATCHES - KILLS
    assert processes.errors() == ""


async def test_a_process_that_stood_still_for_longer_than_its_lease_repeats_nothing(
    processes: Processes, bus: EmbeddedBus, tmp_path: Path
) -> None:
    slow = processes.start("work", 1)
    await bus.publish([record for number in range(100) for record in bus_member.batch(number)])

    async def is_at_work() -> bool:
        return await answers(bus) > 10

    await eventually(is_at_work, "the first process is at work")
    following = itertools.count(100)

    async def stops_in_the_middle() -> bool:
        await bus.publish(bus_member.batch(next(following)))
        # While this process has the turn to write, the other stops without it: stopped within its turn it holds up all.
        with contextlib.closing(sqlite3.connect(tmp_path / "bus.db", timeout=30, isolation_level=None)) as turn:
            turn.execute("BEGIN IMMEDIATE")
            if await everything_finished(bus):
                return False
            slow.send_signal(signal.SIGSTOP)
            return True

    await eventually(stops_in_the_middle, "the first process stops in the middle of its work")
    processes.start("work", 2)
    await eventually(partial(everything_finished, bus), "the second process takes over and finishes everything")
    before = await answers_by(bus, 1)
    slow.send_signal(signal.SIGCONT)

    async def takes_part_again() -> bool:
        await bus.publish(bus_member.batch(next(following)))
        return await answers_by(bus, 1) > before

    await eventually(takes_part_again, "the first process takes part again")
    await eventually(partial(everything_finished, bus), "everything is finished")
    await assert_each_was_answered_once(bus)
    assert processes.errors() == ""
