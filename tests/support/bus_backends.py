"""What the contract suite needs of a bus backend beside the bus itself."""

import asyncio
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kafka import KafkaAdminClient

from duologue.bus import Bus
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.kafka.bus import KafkaBus
from duologue.bus.kafka.options import KafkaOptions

_LEASE_SECONDS = 1.5


class Backend(Protocol):
    """Gives out buses of one backend and does to them what befalls processes.

    Every bus that `open` returns stands for one process.
    """

    async def new_topic(self) -> str:
        """A topic that nobody has used, with at least four partitions."""
        ...

    async def make(self, names: Sequence[str]) -> None:
        """Topics that are not there yet."""
        ...

    async def open(self) -> Bus:
        """A bus as one more process would open it."""
        ...

    async def freeze(self, bus: Bus) -> None:
        """The process of `bus` stands still, as after SIGSTOP: nobody hears of its members. None of them may fetch."""
        ...

    async def thaw(self, bus: Bus) -> None:
        """The process goes on, as after SIGCONT."""
        ...

    async def kill(self, bus: Bus) -> None:
        """The process of `bus` is gone without a goodbye, as after SIGKILL. None of its members may be fetching."""
        ...

    async def close(self) -> None:
        """Close what is still open."""
        ...


class EmbeddedBackend:
    """The embedded log. A bus with a connection of its own is to the others what a process is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._buses: list[EmbeddedBus] = []
        self._topics = 0

    async def new_topic(self) -> str:
        self._topics += 1
        return f"test.topic{self._topics}.v1"

    async def make(self, names: Sequence[str]) -> None:
        """The log makes a topic when it is first written to or asked for."""

    async def open(self) -> EmbeddedBus:
        bus = await EmbeddedBus.open(self._file, partitions=4, lease_seconds=_LEASE_SECONDS)
        self._buses.append(bus)
        return bus

    async def freeze(self, bus: Bus) -> None:
        assert isinstance(bus, EmbeddedBus)
        for subscription in bus._subscriptions:
            if subscription._heart is not None:
                subscription._heart.cancel()

    async def thaw(self, bus: Bus) -> None:
        assert isinstance(bus, EmbeddedBus)
        for subscription in bus._subscriptions:
            await subscription.join()

    async def kill(self, bus: Bus) -> None:
        assert isinstance(bus, EmbeddedBus)
        await self.freeze(bus)
        self._buses.remove(bus)
        await bus._log.close()

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()


class KafkaBackend:
    """A real broker. A bus has connections of its own, and to the others is what a process is."""

    def __init__(self, servers: str) -> None:
        self._servers = servers.split(",")
        self._options = KafkaOptions(session_seconds=2 * _LEASE_SECONDS, handover_seconds=20.0)
        self._buses: list[KafkaBus] = []
        self._stopped: dict[Bus, threading.Event] = {}

    async def new_topic(self) -> str:
        name = f"test.{uuid.uuid4().hex}.v1"
        await self.make([name])
        return name

    async def make(self, names: Sequence[str]) -> None:
        def create() -> None:
            admin = KafkaAdminClient(bootstrap_servers=self._servers)
            missing = set(names) - set(admin.list_topics())
            shape = {"num_partitions": 4, "replication_factor": 1}
            if missing:
                admin.create_topics(dict.fromkeys(missing, shape), wait_for_metadata=True)
            admin.close()

        await asyncio.to_thread(create)

    async def open(self) -> KafkaBus:
        bus = await KafkaBus.open(self._servers, self._options)
        self._buses.append(bus)
        return bus

    async def freeze(self, bus: Bus) -> None:
        assert isinstance(bus, KafkaBus)
        self._stopped[bus] = go_on = threading.Event()
        for subscription in bus._subscriptions:
            # Nothing is sent or read any more: neither heartbeats nor what the poller asks for.
            subscription._poller._consumer._net.call_soon_threadsafe(go_on.wait)

    async def thaw(self, bus: Bus) -> None:
        self._stopped.pop(bus).set()

    async def kill(self, bus: Bus) -> None:
        assert isinstance(bus, KafkaBus)
        await self.freeze(bus)
        for subscription in bus._subscriptions:
            subscription._poller._stopping.set()

    async def close(self) -> None:
        for bus in self._buses:
            if bus in self._stopped:
                self._stopped.pop(bus).set()
            await bus.close()
