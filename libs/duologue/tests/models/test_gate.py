"""Who is let in: in turns by campaign, nobody forgotten, nobody while the server wants to be left alone."""

from __future__ import annotations

import asyncio
from collections import Counter

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.models import Caller, Gates
from duologue.models.completion import NOBODY
from duologue.models.connection import ModelUnavailable
from duologue.models.gate import Gate, GaveUp
from tests.support.simulated_time import run_simulated


def busy(retry_after: float = 0.0, status: int = 429) -> ModelUnavailable:
    return ModelUnavailable("busy", retry_after, status)


def gate_of(most: int) -> Gate:
    return Gate(most, asyncio.get_running_loop().time)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_small_campaign_is_served_as_often_as_a_large_one() -> None:
    async def world() -> Counter[str]:
        gate = gate_of(1)
        served: list[str] = []

        async def ask(campaign: str) -> None:
            async with gate.admitted(Caller(campaign)):
                await asyncio.sleep(1)
                served.append(campaign)

        async with asyncio.TaskGroup() as group:
            for campaign, count in (("large", 100), ("small", 10), ("middle", 20)):
                for _ in range(count):
                    group.create_task(ask(campaign))
        return Counter(served[:30])

    first = run_simulated(world())
    assert first["small"] == 10
    assert abs(first["large"] - first["middle"]) <= 2  # the first one came when nobody else was there


async def test_requests_of_one_campaign_keep_their_order() -> None:
    gate = Gate(1)
    order: list[int] = []

    async def ask(number: int) -> None:
        async with gate.admitted(Caller("one")):
            order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(ask(number))
    assert order == list(range(20))


async def test_the_dialogue_that_was_begun_first_goes_first() -> None:
    gate = Gate(1)
    order: list[float] = []

    async def ask(begun: float) -> None:
        async with gate.admitted(Caller("one", begun=begun)):
            order.append(begun)
            await settle()

    async with asyncio.TaskGroup() as group:
        for begun in (5.0, 3.0, 4.0, 1.0, 2.0):
            group.create_task(ask(begun))
    assert order == [5.0, 1.0, 2.0, 3.0, 4.0]  # before the first nobody waited


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["a1", "b1", "b2", "c1", "c2", "c3"])),
        st.tuples(st.sampled_from(["answer", "refuse", "lose", "cancel", "give up"]), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.floats(0, 3)),
        st.tuples(st.just("tell"), st.floats(0, 50)),
    ),
    max_size=60,
)


class World:
    """Requests that come and go in any order before one gate."""

    def __init__(self, most: int) -> None:
        self.gate = gate_of(most)
        self.most = most
        self.inside: dict[asyncio.Task[None], asyncio.Future[None]] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.tired: set[asyncio.Task[None] | None] = set()

    async def step(self, kind: str, value: str | float) -> None:
        if kind == "ask":
            self.tasks.append(asyncio.create_task(self._ask(str(value))))
        elif kind == "wait":
            await asyncio.sleep(float(value))
        elif kind == "tell":
            self.gate.told(10, float(value), 0.5)
        elif kind in ("cancel", "give up") and (left := [task for task in self.tasks if not task.done()]):
            task = left[int(value) % len(left)]
            if kind == "cancel":
                task.cancel()
            else:
                self.tired.add(task)
        elif self.inside and kind in ("answer", "refuse", "lose"):
            outcome = list(self.inside.values())[int(value) % len(self.inside)]
            if not outcome.done():
                errors = {"refuse": busy(float(value) % 3), "lose": ModelUnavailable("lost")}
                outcome.set_exception(errors[kind]) if kind in errors else outcome.set_result(None)
        await settle()
        assert self.gate.running == len(self.inside) <= self.most
        assert 1 <= self.gate.limit <= self.most

    async def _ask(self, who: str) -> None:
        campaign, begun = who
        task = asyncio.current_task()
        assert task is not None
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with self.gate.admitted(Caller(campaign, begun=float(begun)), lambda: task in self.tired):
                self.inside[task] = outcome
                try:
                    await outcome
                finally:
                    del self.inside[task]
        except (ModelUnavailable, GaveUp):
            pass

    async def finish(self) -> None:
        """Answer whoever is let in until nobody is left: nobody may be forgotten."""
        async with asyncio.timeout(3600):
            while not all(task.done() for task in self.tasks):
                for outcome in list(self.inside.values()):
                    if not outcome.done():
                        outcome.set_result(None)
                await asyncio.sleep(0.1)
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert (self.gate.running, self.gate.waiting) == (0, 0)


@settings(deadline=None, max_examples=200)
@given(steps=STEPS, most=st.integers(1, 6))
def test_whatever_comes_and_goes_no_slot_is_lost_and_nobody_forgotten(
    steps: list[tuple[str, str | float]], most: int
) -> None:
    async def run() -> None:
        world = World(most)
        for kind, value in steps:
            await world.step(kind, value)
        await world.finish()

    run_simulated(run())


async def test_a_request_that_is_given_up_as_it_is_let_in_leaves_its_slot_to_the_next() -> None:
    gate = Gate(1)
    await gate.enter(Caller("a"))
    first, second = (asyncio.create_task(gate.enter(Caller("a"))) for _ in range(2))
    await settle()
    gate.leave()
    first.cancel()
    await asyncio.wait({first})
    async with asyncio.timeout(10):
        await second
    assert gate.running == 1


# Closed


def test_nobody_is_let_in_for_as_long_as_the_server_asks() -> None:
    async def world() -> float:
        loop = asyncio.get_running_loop()
        gate = gate_of(4)
        with pytest.raises(ModelUnavailable):
            async with gate.admitted(NOBODY):
                raise busy(retry_after=7)
        async with gate.admitted(NOBODY):
            return loop.time()

    assert run_simulated(world()) == pytest.approx(7)


def test_an_hour_is_not_waited_for_whatever_a_server_asks() -> None:
    async def world() -> float:
        gate = gate_of(4)
        with pytest.raises(ModelUnavailable):
            async with gate.admitted(NOBODY):
                raise busy(retry_after=3600)
        async with gate.admitted(NOBODY):
            return asyncio.get_running_loop().time()

    assert run_simulated(world()) == pytest.approx(60)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_refuses_everything_is_asked_ever_more_rarely_by_one_at_a_time(status: int) -> None:
    async def world() -> list[float]:
        loop = asyncio.get_running_loop()
        gate = gate_of(64)
        asked: list[float] = []

        async def ask() -> None:
            while True:
                try:
                    async with gate.admitted(NOBODY):
                        asked.append(loop.time())
                        await asyncio.sleep(0.01)
                        raise busy(status=status)
                except ModelUnavailable:
                    continue

        tasks = [asyncio.create_task(ask()) for _ in range(100)]
        await asyncio.sleep(60)
        for task in tasks:
            task.cancel()
        return asked

    asked = run_simulated(world())
    together = [at for at in asked if at == 0]
    assert len(together) == 8  # as many as the limit begins with
    assert len(asked) - len(together) <= 20


def test_when_one_has_been_answered_all_the_others_follow() -> None:
    async def world() -> float:
        gate = gate_of(8)
        with pytest.raises(ModelUnavailable):
            async with gate.admitted(NOBODY):
                raise busy()

        async def ask() -> None:
            async with gate.admitted(NOBODY):
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
        return asyncio.get_running_loop().time()

    assert run_simulated(world()) < 4


def test_whoever_gives_up_goes_away_and_is_not_let_in_later() -> None:
    async def world() -> None:
        gate = gate_of(1)
        await gate.enter(Caller("a"))
        with pytest.raises(GaveUp):
            await gate.enter(Caller("b"), lambda: True)
        assert (gate.running, gate.waiting) == (1, 0)
        gate.leave()
        assert gate.running == 0

    run_simulated(world())


# Shown


async def test_limit_running_waiting_and_whether_it_is_closed_are_shown_for_each_server() -> None:
    gates = Gates(are_told=True)
    gate = gates.of("http://shown", 1)
    assert gates.of("http://shown", 50) is gate
    await gate.enter(NOBODY)
    waiting = asyncio.create_task(gate.enter(NOBODY))
    await settle()

    def shown(name: str) -> float | None:
        return prometheus_client.REGISTRY.get_sample_value(f"duologue_model_{name}", {"server": "http://shown"})

    assert [shown(name) for name in ("limit", "running", "waiting", "closed")] == [1, 1, 1, 0]
    gate.leave()
    await waiting
    assert [shown(name) for name in ("limit", "running", "waiting", "closed")] == [1, 1, 0, 0]
    assert shown("wait_seconds_count") == 1  # the first found room
    gate.failed(busy(), gate.era)
    assert shown("closed") == 1
    gate.answered()
    assert shown("closed") == 0
