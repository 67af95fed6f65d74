"""The limit finds how many requests bring the most, on simulated servers whose best is known."""

from __future__ import annotations

import asyncio
import contextlib
import math

import pytest

from duologue.models.connection import ModelUnavailable
from duologue.models.gate import Gate
from tests.support.simulated_server import SimulatedServer, falling, keep_asking, level, saturating
from tests.support.simulated_time import run_simulated

CALLERS, MOST = 256, 200
# Time to find the limit, and time to measure what comes of it.
FINDING_SECONDS, MEASURED_SECONDS = 120, 200


async def goodput(server: SimulatedServer, callers: int = CALLERS, most: int = MOST) -> float:
    """Answers a second through a gate, once it knows the server."""
    gate = Gate(most, asyncio.get_running_loop().time)
    asking = asyncio.create_task(keep_asking(gate, server, callers))
    await asyncio.sleep(FINDING_SECONDS)
    before = server.answered
    await asyncio.sleep(MEASURED_SECONDS)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    return (server.answered - before) / MEASURED_SECONDS


def best(server: SimulatedServer) -> float:
    """Answers a second with the best fixed number of requests at once."""
    counts = range(1, min(server.refuses_beyond, MOST) + 1)
    return max(count / server.seconds(count) for count in counts) / math.exp(server.spread**2 / 2)


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("knee", [4, 12, 32, 100])
@pytest.mark.parametrize("kind", [level, falling], ids=["level", "falling"])
def test_a_server_that_brings_no_more_beyond_some_number_gives_nearly_its_best(
    kind: type, knee: int, spread: float
) -> None:
    server = SimulatedServer(kind(knee), spread)
    assert run_simulated(goodput(server)) >= 0.85 * best(server)


@pytest.mark.parametrize("half", [4, 12, 32])
def test_a_server_that_saturates_slowly_is_filled(half: int) -> None:
    server = SimulatedServer(saturating(half))
    assert run_simulated(goodput(server)) >= 0.85 * best(server)


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("room", [1, 4, 12, 32, 100])
def test_a_server_that_refuses_beyond_some_number_is_kept_nearly_full_and_refuses_next_to_none(
    room: int, spread: float
) -> None:
    server = SimulatedServer(lambda _: 1.0, spread, refuses_beyond=room)
    assert run_simulated(goodput(server)) >= 0.85 * best(server)
    assert server.refused <= 0.05 * server.answered + 20


@pytest.mark.parametrize("most", [1, 5, 32, 150])
def test_no_more_are_let_in_than_the_setting_says(most: int) -> None:
    server = SimulatedServer(lambda _: 1.0)
    run_simulated(goodput(server, most=most))
    assert server.busiest == most


def test_a_server_with_less_room_than_the_setting_says_is_not_tried_beyond_it() -> None:
    async def world() -> SimulatedServer:
        server = SimulatedServer(lambda _: 1.0, refuses_beyond=20)
        gate = Gate(MOST, asyncio.get_running_loop().time)
        gate.bound(20)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(300):
                await keep_asking(gate, server, CALLERS)
        return server

    server = run_simulated(world())
    assert (server.busiest, server.refused) == (20, 0)


def test_a_limit_that_is_not_used_stays_as_it_is() -> None:
    async def world() -> int:
        gate = Gate(MOST, asyncio.get_running_loop().time)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(300):
                await keep_asking(gate, SimulatedServer(lambda _: 1.0), 3)
        return gate.limit

    assert run_simulated(world()) == 8


async def reach(gate: Gate, server: SimulatedServer, answers: int) -> float:
    """When so many answers in one second have been seen."""
    loop = asyncio.get_running_loop()
    while True:
        before = server.answered
        await asyncio.sleep(1)
        if server.answered - before >= answers:
            return loop.time()


def test_after_a_server_was_away_its_goodput_is_back_within_seconds() -> None:
    async def world() -> float:
        loop = asyncio.get_running_loop()
        server = SimulatedServer(level(64, 0.5))
        gate = Gate(MOST, loop.time)
        asking = asyncio.create_task(keep_asking(gate, server, CALLERS))
        await reach(gate, server, 100)
        answering, server.seconds = server.seconds, lambda _: 3600.0
        for _ in range(64):
            gate.failed(ModelUnavailable("away"), gate.era)
        server.seconds = answering
        back = await reach(gate, server, 100) - loop.time()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        return back

    assert run_simulated(world()) < 15


def test_a_server_that_is_away_for_long_is_not_come_back_to_with_one_request() -> None:
    gate = Gate(MOST)
    before = gate.limit
    for _ in range(1000):
        gate.failed(ModelUnavailable("away"), gate.era)
    assert gate.limit >= 1
    gate.running = before
    gate.answered()
    assert not gate.is_closed


def test_one_answer_that_is_lost_among_others_moves_nothing() -> None:
    gate = Gate(MOST)
    gate.running = gate.limit
    for _ in range(20):
        gate.failed(ModelUnavailable("reset"), gate.era)
        gate.answered()
    assert (gate.limit, gate.era) == (8, 0)


@pytest.mark.parametrize("status", [424, 500])
def test_an_error_that_may_be_the_request_s_own_is_nobody_else_s(status: int) -> None:
    gate = Gate(MOST)
    gate.running = gate.limit
    for _ in range(20):
        gate.failed(ModelUnavailable("failed", status=status), gate.era)
    assert (gate.limit, gate.is_closed) == (8, False)


# What the server says of itself


def told(*loads: tuple[float, float, float]) -> int:
    gate = Gate(MOST)
    gate.running = gate.limit
    for load in loads:
        gate.told(*load)
    return gate.limit


def test_what_waits_inside_the_server_is_taken_off() -> None:
    assert told((4, 4, 0.2), (4, 4, 0.2)) == 4


def test_a_queue_that_is_gone_at_the_next_look_is_none() -> None:
    assert told((4, 4, 0.2), (8, 0, 0.2), (4, 4, 0.2)) == 8


def test_a_queue_that_others_make_is_taken_off_by_our_share_of_it() -> None:
    assert told((60, 20, 0.2), (60, 20, 0.2)) == 6


def test_a_server_whose_memory_is_full_gets_less() -> None:
    assert told((8, 0, 0.99)) == 6
    assert told((8, 0, 0.9)) == 8


def test_the_last_request_is_never_taken_off() -> None:
    assert told(*[(1, 1000, 1.0)] * 50) >= 1
