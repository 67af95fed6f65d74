"""Real processes on one bus, killed and stopped at random moments: no record is lost, none comes twice."""

import contextlib
import itertools
import random
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from duologue.bus import Bus
from tests.support import bus_member
from tests.support.bus_member import GROUP, batch, input_of, open_quick, output_of
from tests.support.eventually import eventually

BATCHES = 160
KILLS = 9
PATIENCE_SECONDS = 90.0


@dataclass
class Scene:
    """Processes on a bus, and what they say: answers on the bus, errors on standard error."""

    url: str
    folder: Path
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    bus: Bus = field(init=False)

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, bus_member.__file__, self.url, self.name, *map(str, arguments)]
        out, errors = self.folder / f"{len(self.started)}.out", self.folder / "errors"
        with out.open("w") as said, errors.open("a") as complained:
            process = subprocess.Popen(command, stdout=said, stderr=complained, text=True)
        self.started.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()

    def acknowledged(self) -> list[int]:
        """Numbers of the batches that publishers were told are durable. A line that was cut off does not count."""
        texts = [(self.folder / f"{number}.out").read_text() for number in range(len(self.started))]
        lines = [line for text in texts for line in text.splitlines(keepends=True)]
        return [int(line) for line in lines if line.endswith("\n") and line.strip().isdigit()]

    def errors(self) -> str:
        return (self.folder / "errors").read_text()

    def close(self) -> None:
        for process in self.started:
            self.kill(process)

    def turn(self) -> AbstractContextManager[object]:
        """While this lasts no process is within the embedded log's write lock: stopped there it would hold up all."""
        if not self.url.startswith("sqlite"):
            return contextlib.nullcontext()
        connection = sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        return contextlib.closing(connection)

    async def publish(self, number: int) -> None:
        await self.bus.publish(batch(self.name, number))

    async def answers(self) -> int:
        return len([delivery async for delivery in self.bus.read(output_of(self.name))])

    async def answers_by(self, seed: int) -> int:
        by = [delivery.record.headers["by"] async for delivery in self.bus.read(output_of(self.name))]
        return by.count(str(seed))

    async def everything_finished(self) -> bool:
        topic = input_of(self.name)
        return await self.bus.lag(topic.consumer_group(GROUP), topic.name) == 0

    async def assert_each_was_answered_once(self) -> set[int]:
        """Numbers of the batches that were published, each of them whole."""
        published = Counter([delivery.record.value async for delivery in self.bus.read(input_of(self.name).name)])
        answered = Counter([delivery.record.value async for delivery in self.bus.read(output_of(self.name))])
        numbers = {int(value.split(b".")[0]) for value in published}
        assert published == Counter(record.value for number in numbers for record in batch(self.name, number))
        assert answered == published
        return numbers


@pytest.fixture(params=["embedded", "kafka"])
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    if request.param == "kafka":
        scene = Scene(f"kafka://{request.getfixturevalue('kafka_servers')}", tmp_path)
        make_topics(scene)
    else:
        scene = Scene(f"sqlite:///{tmp_path}/bus.db", tmp_path)
    scene.bus = await open_quick(scene.url)
    yield scene
    scene.close()
    await scene.bus.close()


def make_topics(scene: Scene) -> None:
    admin = KafkaAdminClient(bootstrap_servers=scene.url.removeprefix("kafka://").split(","))
    topic = input_of(scene.name)
    names = (topic.name, topic.retry(GROUP), topic.dead_letters(GROUP), output_of(scene.name))
    admin.create_topics(
        {name: {"num_partitions": 8, "replication_factor": 1} for name in names}, wait_for_metadata=True
    )
    admin.close()


@pytest.mark.parametrize("seed", [20261122])
async def test_processes_killed_at_any_moment_lose_nothing_and_repeat_nothing(scene: Scene, seed: int) -> None:
    draw = random.Random(seed)
    workers = [scene.start("work", seed + number) for number in range(3)]
    publisher = scene.start("publish", 0, BATCHES)

    for kill in range(KILLS):
        enough = await scene.answers() + draw.randrange(20, 100)

        async def got_on(enough: int = enough, publisher: subprocess.Popen[str] = publisher) -> bool:
            assert all(worker.poll() is None for worker in workers), scene.errors()
            return await scene.answers() >= enough or publisher.poll() == 0

        await eventually(got_on, f"the workers get on after {kill} kills", PATIENCE_SECONDS)
        if kill % 4 == 1 and publisher.poll() is None:
            scene.kill(publisher)
            begun = max(scene.acknowledged(), default=-1) + 1
            # The batch after the last acknowledged one may be there or not; it is left as it is.
            publisher = scene.start("publish", begun + 1, BATCHES - begun - 1)
        else:
            victim = draw.randrange(len(workers))
            scene.kill(workers[victim])
            workers[victim] = scene.start("work", seed + 100 + kill)

    async def published_all() -> bool:
        return publisher.poll() == 0

    await eventually(published_all, "everything is published", PATIENCE_SECONDS)
    await eventually(scene.everything_finished, "everything is finished", PATIENCE_SECONDS)
    numbers = await scene.assert_each_was_answered_once()
    assert set(scene.acknowledged()) <= numbers
    assert len(numbers) > BATCHES - KILLS
    assert scene.errors() == ""


async def test_a_process_that_stood_still_for_longer_than_its_lease_repeats_nothing(scene: Scene) -> None:
    slow = scene.start("work", 1)
    for number in range(100):
        await scene.publish(number)

    async def is_at_work() -> bool:
        return await scene.answers() > 10

    await eventually(is_at_work, "the first process is at work", PATIENCE_SECONDS)
    following = itertools.count(100)

    async def stops_in_the_middle() -> bool:
        await scene.publish(next(following))
        with scene.turn():
            if await scene.everything_finished():
                return False
            slow.send_signal(signal.SIGSTOP)
            return True

    await eventually(stops_in_the_middle, "the first process stops in the middle of its work", PATIENCE_SECONDS)
    scene.start("work", 2)
    await eventually(scene.everything_finished, "the second process takes over and finishes all", PATIENCE_SECONDS)
    before = await scene.answers_by(1)
    slow.send_signal(signal.SIGCONT)

    async def takes_part_again() -> bool:
        await scene.publish(next(following))
        return await scene.answers_by(1) > before

    await eventually(takes_part_again, "the first process takes part again", PATIENCE_SECONDS)
    await eventually(scene.everything_finished, "everything is finished", PATIENCE_SECONDS)
    await scene.assert_each_was_answered_once()
    assert scene.errors() == ""
