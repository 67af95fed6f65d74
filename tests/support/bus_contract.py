"""What every bus backend promises, and how its tests watch it; see bus_backends.py for how one joins in.

Where a test claims that something is *not* delivered, it publishes a marker behind it and waits for the marker.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence

from duologue.bus import Bus, Delivery, LeaseLost, Record, Subscription
from tests.support.eventually import eventually

PATIENCE_SECONDS = 30.0
# Enough keys to hit every partition of a topic.
KEYS = [f"key-{number}" for number in range(60)]


def record(topic: str, value: str, key: str = "one") -> Record:
    return Record(topic, key, value.encode())


def values(deliveries: Iterable[Delivery]) -> list[str]:
    return [delivery.record.value.decode() for delivery in deliveries]


async def take(subscription: Subscription, count: int) -> list[Delivery]:
    """The next `count` deliveries, not finished."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(taken) < count:
            taken += await subscription.fetch(count - len(taken))
    return taken


async def written(bus: Bus, topic: str) -> list[str]:
    return values([delivery async for delivery in bus.read(topic)])


class Group:
    """Members at work: each finishes what it is given. `finished` has the member and delivery of each success."""

    def __init__(self, outputs: Callable[[Delivery], Sequence[Record]] = lambda _: ()) -> None:
        self.finished: list[tuple[Subscription, Delivery]] = []
        self._outputs = outputs
        self._tasks: dict[Subscription, asyncio.Task[None]] = {}

    def start(self, *subscriptions: Subscription) -> None:
        for subscription in subscriptions:
            self._tasks[subscription] = asyncio.create_task(self._work(subscription))

    async def _work(self, subscription: Subscription) -> None:
        while deliveries := await subscription.fetch(8):
            for delivery in deliveries:
                with contextlib.suppress(LeaseLost):
                    await subscription.finish(delivery, self._outputs(delivery))
                    self.finished.append((subscription, delivery))

    async def stop(self, subscription: Subscription) -> None:
        """The member works no more. What it was finishing may be finished and not be in `finished`."""
        task = self._tasks.pop(subscription)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def until(self, claim: Callable[[], Awaitable[bool]], what: str) -> None:
        """Work until `claim` holds; what failed a member fails the test."""

        async def claimed() -> bool:
            for task in self._tasks.values():
                if task.done():
                    task.result()
            return await claim()

        await eventually(claimed, what, PATIENCE_SECONDS)

    async def finish(self, expected: Iterable[str]) -> None:
        """Work until all the values were finished, then stop all members."""
        wanted = set(expected)

        async def all_finished() -> bool:
            return wanted <= set(self.values())

        await self.until(all_finished, "every record is finished")
        for subscription in list(self._tasks):
            await self.stop(subscription)

    def values(self) -> list[str]:
        return values(delivery for _, delivery in self.finished)

    def partitions(self, *subscriptions: Subscription) -> set[int]:
        return {delivery.partition for member, delivery in self.finished if member in subscriptions}


async def work_off(*subscriptions: Subscription, expected: Iterable[str]) -> Group:
    group = Group()
    group.start(*subscriptions)
    await group.finish(expected)
    return group


async def publish_round(bus: Bus, topic: str, name: str) -> list[str]:
    """One record of every key; the values."""
    await bus.publish([record(topic, f"{name} {key}", key) for key in KEYS])
    return [f"{name} {key}" for key in KEYS]


async def lag_is(bus: Bus, group: str, topic: str, records: int) -> bool:
    """Whether the lag says that so many records are left: what a backend writes between them may count too."""
    lag = await bus.lag(group, topic)
    return lag >= records and (lag == 0) == (records == 0)


async def all_is_done(bus: Bus, group: str, topic: str) -> None:
    async def claimed() -> bool:
        return await lag_is(bus, group, topic, 0)

    await eventually(claimed, "the group has nothing left", PATIENCE_SECONDS)
