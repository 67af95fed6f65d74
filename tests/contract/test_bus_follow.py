"""What those hear who follow a topic: all of them everything, what is there already and what comes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from duologue.bus import Bus, Delivery
from tests.support.bus_backends import Backend
from tests.support.bus_contract import KEYS, PATIENCE_SECONDS, publish_round, record, take, values
from tests.support.eventually import eventually


class Follower:
    """What a bus has told one who follows a topic."""

    def __init__(self, bus: Bus, topic: str) -> None:
        self.batches: list[list[Delivery]] = []
        self._task = asyncio.create_task(self._follow(bus, topic))

    @property
    def heard(self) -> list[str]:
        return values(delivery for batch in self.batches for delivery in batch)

    async def hears(self, claim: Callable[[], bool], what: str) -> None:
        async def claimed() -> bool:
            if self._task.done():
                self._task.result()
            return claim()

        await eventually(claimed, what, PATIENCE_SECONDS)

    async def has_begun(self) -> None:
        await self.hears(lambda: bool(self.batches), "it knows what was there")

    async def hears_all(self, expected: list[str]) -> None:
        await self.hears(lambda: set(expected) <= set(self.heard), "it has heard everything")

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _follow(self, bus: Bus, topic: str) -> None:
        async with contextlib.aclosing(bus.follow(topic)) as batches:
            async for batch in batches:
                self.batches.append([*batch])


@pytest.fixture
async def follow() -> AsyncIterator[Callable[[Bus, str], Follower]]:
    followers: list[Follower] = []

    def begin(bus: Bus, topic: str) -> Follower:
        followers.append(Follower(bus, topic))
        return followers[-1]

    yield begin
    for follower in followers:
        await follower.stop()


Follow = Callable[[Bus, str], Follower]


async def test_what_the_topic_has_comes_together_and_first(backend: Backend, follow: Follow) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    expected = [value for name in "abcdef" for value in await publish_round(bus, topic, name)]
    follower = follow(bus, topic)
    await follower.has_begun()
    assert sorted(values(follower.batches[0])) == sorted(expected)


async def test_a_topic_that_has_nothing_says_so_at_once(backend: Backend, follow: Follow) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    follower = follow(bus, topic)
    await follower.has_begun()
    assert follower.batches == [[]]


async def test_everyone_who_follows_hears_what_comes_whoever_writes_it(backend: Backend, follow: Follow) -> None:
    buses, topic = [await backend.open() for _ in range(2)], await backend.new_topic()
    await buses[0].publish([record(topic, "before")])
    followers = [follow(bus, topic) for bus in (*buses, buses[0])]
    for follower in followers:
        await follower.has_begun()
    expected = ["before", *await publish_round(buses[0], topic, "a"), *await publish_round(buses[1], topic, "b")]
    for follower in followers:
        await follower.hears_all(expected)
        assert sorted(follower.heard) == sorted(expected)


async def test_records_of_a_key_come_in_their_order(backend: Backend, follow: Follow) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    follower = follow(bus, topic)
    for number in range(20):
        await bus.publish([record(topic, f"{key} {number:02}", key) for key in KEYS[:10]])
    await follower.hears_all([f"{key} 19" for key in KEYS[:10]])
    for key in KEYS[:10]:
        of_key = [value for value in follower.heard if value.startswith(f"{key} ")]
        assert of_key == [f"{key} {number:02}" for number in range(20)]


async def test_who_follows_takes_nothing_from_a_group_and_is_in_none(backend: Backend, follow: Follow) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    follower = follow(bus, topic)
    expected = await publish_round(bus, topic, "a")
    member = await bus.subscribe("readers", [topic])
    given = await take(member, len(expected))
    assert sorted(values(given)) == sorted(expected)
    await follower.hears_all(expected)
    assert await bus.lag("readers", topic) >= len(expected)


async def test_who_comes_back_hears_everything_again(backend: Backend, follow: Follow) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    await bus.publish([record(topic, "first")])
    before = follow(bus, topic)
    await before.hears_all(["first"])
    await before.stop()
    await bus.publish([record(topic, "meanwhile")])
    again = follow(bus, topic)
    await again.has_begun()
    assert values(again.batches[0]) == ["first", "meanwhile"]


async def test_one_who_stands_still_for_a_while_misses_nothing(backend: Backend) -> None:
    bus, topic = await backend.open(), await backend.new_topic()
    async with asyncio.timeout(PATIENCE_SECONDS), contextlib.aclosing(bus.follow(topic)) as batches:
        assert await anext(batches) == []
        expected = [value for name in "abcdef" for value in await publish_round(bus, topic, name)]
        heard: list[str] = []
        while len(heard) < len(expected):
            heard += values(await anext(batches))
    assert sorted(heard) == sorted(expected)
