"""Faults at random: processes, brokers and the database are killed, stopped or cut off, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tests.support.brokers.cluster import Broker, KafkaCluster
from tests.support.eventually import eventually
from tests.support.fleet import Copy, Fleet
from tests.support.postgres import PostgresServer
from tests.support.proxy import Line

_BETWEEN_SECONDS = (1.0, 4.0)
_LONGEST_SECONDS = 8.0
_HEALED_SECONDS = 120.0
_AT_ONCE = 2


@dataclass(frozen=True)
class Fault:
    """Something that can befall a part: `strike` makes it happen, `heal` ends it and returns when the part is back."""

    name: str
    strike: Callable[[], None]
    heal: Callable[[], Awaitable[None]]


def faults_of_copy(copy: Copy) -> list[Fault]:
    async def serve() -> None:
        """The fleet starts it again."""
        await eventually(copy.serves, f"{copy.name} is back", _HEALED_SECONDS)

    async def go_on() -> None:
        copy.signal(signal.SIGCONT)
        await serve()

    return [
        Fault(f"kill {copy.name}", lambda: copy.signal(signal.SIGKILL), serve),
        Fault(f"pause {copy.name}", lambda: copy.signal(signal.SIGSTOP), go_on),
    ]


def faults_of_broker(cluster: KafkaCluster, broker: Broker, line: Line, draw: random.Random) -> list[Fault]:
    async def start() -> None:
        cluster.run(broker)
        await whole(cluster)

    async def go_on() -> None:
        cluster.signal(broker, signal.SIGCONT)
        await whole(cluster)

    async def mend() -> None:
        line.mend(broken=draw.random() < 0.5)
        await whole(cluster)

    return [
        Fault(f"kill broker-{broker.node}", lambda: cluster.signal(broker, signal.SIGKILL), start),
        Fault(f"pause broker-{broker.node}", lambda: cluster.signal(broker, signal.SIGSTOP), go_on),
        Fault(f"cut broker-{broker.node}", line.cut, mend),
    ]


def faults_of_database(server: PostgresServer, line: Line, draw: random.Random) -> list[Fault]:
    async def start() -> None:
        server.run()
        await asyncio.to_thread(server.wait)

    async def go_on() -> None:
        server.resume()

    async def mend() -> None:
        line.mend(broken=draw.random() < 0.5)

    return [
        Fault("kill database", server.kill, start),
        Fault("pause database", server.pause, go_on),
        Fault("cut database", line.cut, mend),
    ]


async def whole(cluster: KafkaCluster) -> None:
    """Until every partition has all its copies again: the loss of two brokers at once is no fault that is promised."""
    await eventually(lambda: asyncio.to_thread(_is_whole, cluster), "the brokers are together again", _HEALED_SECONDS)


def _is_whole(cluster: KafkaCluster) -> bool:
    with contextlib.suppress(KafkaError):
        admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap.split(","), bootstrap_timeout_ms=2000)
        try:
            topics = admin.describe_topics(admin.list_topics())
        finally:
            admin.close()
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        return all(len(one["isr_nodes"]) == len(one["replica_nodes"]) for one in partitions)
    return False


class Storm:
    """Strikes every few seconds until it is cancelled, `most` times at most.

    No more than `_AT_ONCE` parts are down at a time, none of them struck twice, so that on a slow machine too something
    is left that works.
    """

    def __init__(self, fleet: Fleet, parts: dict[str, list[Fault]], draw: random.Random, most: int) -> None:
        """`parts`: what else there is beside the copies of services, with its faults."""
        self._parts = parts | {copy.name: faults_of_copy(copy) for copy in fleet.copies}
        self._draw = draw
        self._most = most
        self._struck: set[str] = set()
        self._healing: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    async def run(self) -> None:
        try:
            for _ in range(self._most):
                await asyncio.sleep(self._draw.uniform(*_BETWEEN_SECONDS))
                if len(self._healing) >= _AT_ONCE:
                    healed, self._healing = await asyncio.wait(self._healing, return_when=asyncio.FIRST_COMPLETED)
                    for task in healed:
                        task.result()
                part = self._draw.choice([name for name in sorted(self._parts) if name not in self._struck])
                self._healing.add(asyncio.create_task(self._befall(part, self._draw.choice(self._parts[part]))))
        finally:
            # What was struck is healed before anything else is looked at.
            await asyncio.gather(*self._healing)

    async def _befall(self, part: str, fault: Fault) -> None:
        self._struck.add(part)
        seconds = self._draw.uniform(0.5, _LONGEST_SECONDS)
        self.counts[fault.name] += 1
        print(f"{time.strftime('%H:%M:%S')} {fault.name} for {seconds:.1f} s", flush=True)
        fault.strike()
        await asyncio.sleep(seconds)
        await fault.heal()
        self._struck.discard(part)
