"""The role-play engine before model servers that misbehave: no dialogue is lost, doubled or changed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from duologue.models import Endpoint
from tests.support.desk_models import deciding
from tests.support.eventually import eventually
from tests.support.model_fault_proxy import (
    GARBAGE,
    WRONG_SCHEMA,
    Fault,
    Hang,
    ModelFaultProxy,
    Reset,
    Slow,
    SlowStart,
    Truncated,
    refusing,
)
from tests.support.model_server import ScriptedModelServer
from tests.support.playing import Playing, Texts, distinct, playing, working

DIALOGUES = 40
FAULTS: dict[str, Callable[[], Fault]] = {
    "slow": lambda: Slow(0.05),
    "slow start": lambda: SlowStart(0.3, 30),
    "hang": Hang,
    "reset": Reset,
    "truncated": Truncated,
    "garbage": lambda: GARBAGE,
    "wrong schema": lambda: WRONG_SCHEMA,
    "429 storm": lambda: refusing(429),
    "429 with a time": lambda: refusing(429, retry_after=1),
    "503": lambda: refusing(503),
}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(distinct, deciding()) as server:
        yield server


@pytest.fixture
async def proxy(server: ScriptedModelServer) -> AsyncIterator[ModelFaultProxy]:
    async with ModelFaultProxy(server.url) as proxy:
        yield proxy


def endpoint(*proxies: ModelFaultProxy, **changes: object) -> Endpoint:
    urls = ",".join(proxy.url for proxy in proxies)
    return Endpoint.model_validate({"url": urls, "model": "desk", "timeout_seconds": 2.0} | changes)


async def undisturbed(folder: Path, server: ScriptedModelServer) -> tuple[dict[str, Texts], int]:
    """The dialogues of a run where nothing goes wrong, and how many requests it took."""
    async with playing(folder / "undisturbed", server.endpoint(model="desk")) as engine, working(engine):
        await engine.request(DIALOGUES)
        await engine.finished(DIALOGUES)
        dialogues = await engine.dialogues()
    asked = len(server.requests)
    server.requests.clear()
    return dialogues, asked


async def some_are_played(engine: Playing, proxy: ModelFaultProxy) -> None:
    """Not all of what they need has been answered, so that the fault meets dialogues in their middle."""

    async def claim() -> bool:
        return len(proxy.passed) >= 2 * DIALOGUES

    await eventually(claim, "dialogues are under way")


@pytest.mark.parametrize("name", FAULTS)
async def test_after_a_fault_every_dialogue_goes_on_from_its_last_good_turn(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy, name: str
) -> None:
    expected, asked = await undisturbed(tmp_path, server)
    async with playing(tmp_path, endpoint(proxy)) as engine, working(engine):
        await engine.request(DIALOGUES)
        await some_are_played(engine, proxy)
        proxy.fault = FAULTS[name]()
        await proxy.has_struck(5)
        before = len(await engine.dialogues())
        proxy.fault = None
        await engine.finished(DIALOGUES)
        assert before < DIALOGUES, "the fault came too late to meet anybody"
        assert await engine.dialogues() == expected
        assert await engine.put_off() == 0
    assert len(server.requests) <= asked + proxy.struck


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "slow start"])
async def test_a_server_that_fails_now_and_then_costs_no_dialogue(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy, name: str
) -> None:
    expected, asked = await undisturbed(tmp_path, server)
    proxy.fault, proxy.each = FAULTS[name](), 23
    async with playing(tmp_path, endpoint(proxy, timeout_seconds=0.5)) as engine, working(engine):
        await engine.request(DIALOGUES)
        await engine.finished(DIALOGUES)
        assert await engine.dialogues() == expected
        assert await engine.put_off() == 0
    assert proxy.struck > 0
    assert len(server.requests) <= asked + proxy.struck


@pytest.mark.parametrize("name", ["hang", "reset", "garbage", "429 storm", "429 with a time", "503"])
async def test_with_one_of_two_servers_out_of_order_work_goes_on_at_the_other(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy, name: str
) -> None:
    expected, _ = await undisturbed(tmp_path, server)
    async with (
        ModelFaultProxy(server.url) as other,
        playing(tmp_path, endpoint(proxy, other, timeout_seconds=1.0)) as engine,
        working(engine),
    ):
        proxy.fault = FAULTS[name]()
        await engine.request(DIALOGUES)
        await engine.finished(DIALOGUES)
        assert await engine.dialogues() == expected
        assert await engine.put_off() == 0
        assert not proxy.passed


async def test_a_server_that_is_back_has_dialogues_again(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy
) -> None:
    async with (
        ModelFaultProxy(server.url) as other,
        playing(tmp_path, endpoint(proxy, other)) as engine,
        working(engine),
    ):
        proxy.fault = Reset()
        other.fault = Slow(0.02)  # so that there is work left when the first one is back
        await engine.request(4 * DIALOGUES)
        await proxy.has_struck(2)
        proxy.fault = None

        async def claim() -> bool:
            return len(proxy.passed) > DIALOGUES

        await eventually(claim, "the server that is back is asked")
        other.fault = None
        await engine.finished(4 * DIALOGUES)


async def test_without_faults_a_dialogue_stays_with_its_server(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy
) -> None:
    async with (
        ModelFaultProxy(server.url) as other,
        playing(tmp_path, endpoint(proxy, other)) as engine,
        working(engine),
    ):
        await engine.request(DIALOGUES)
        await engine.finished(DIALOGUES)

    def dialogues_at(one: ModelFaultProxy) -> set[int]:
        """By the seeds of their utterances, of which each dialogue has a range of its own."""
        return {int(seed[1]) // 1000 for body in one.passed if (seed := re.search(rb'"seed":(\d+)', body))}

    assert dialogues_at(proxy)
    assert dialogues_at(other)
    assert not dialogues_at(proxy) & dialogues_at(other)


async def test_a_dialogue_that_waits_for_its_server_keeps_its_place_for_longer_than_a_lease(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy
) -> None:
    expected, asked = await undisturbed(tmp_path, server)
    async with (
        playing(tmp_path, endpoint(proxy), concurrency=DIALOGUES, lease_seconds=1.0) as engine,
        playing(tmp_path, endpoint(proxy), concurrency=DIALOGUES, lease_seconds=1.0) as other,
        working(engine),
        working(other),
    ):
        await engine.request(DIALOGUES)
        await some_are_played(engine, proxy)
        proxy.fault = Reset()
        await proxy.has_struck(5 * DIALOGUES)  # the pauses between so many tries are longer than the lease
        proxy.fault = None
        await engine.finished(DIALOGUES)
        assert await engine.dialogues() == expected
        assert await engine.put_off() == 0
    assert len(server.requests) == asked


async def test_a_worker_that_stops_leaves_what_waits_for_a_server_to_the_next(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy
) -> None:
    expected, _ = await undisturbed(tmp_path, server)
    async with playing(tmp_path, endpoint(proxy, timeout_seconds=600)) as engine:
        engine.drain_seconds = 0.1
        async with working(engine):
            await engine.request(DIALOGUES)
            await some_are_played(engine, proxy)
            proxy.fault = Hang()
            await proxy.has_struck(5)
        await proxy.is_left()
        assert len(await engine.dialogues()) < DIALOGUES
    proxy.fault = None
    async with playing(tmp_path, endpoint(proxy)) as following, working(following):
        await following.finished(DIALOGUES)
        assert await following.dialogues() == expected


async def test_when_patience_ends_dialogues_are_put_off_and_go_on_in_the_same_process_from_their_last_good_turn(
    tmp_path: Path, server: ScriptedModelServer, proxy: ModelFaultProxy
) -> None:
    expected, asked = await undisturbed(tmp_path, server)
    async with playing(tmp_path, endpoint(proxy, patience_seconds=0.3)) as engine, working(engine):
        await engine.request(DIALOGUES)
        await some_are_played(engine, proxy)
        proxy.fault = Reset()

        async def claim() -> bool:
            return await engine.put_off() >= 5

        await eventually(claim, "dialogues are put off")
        proxy.fault = None
        await engine.finished(DIALOGUES)
        assert await engine.dialogues() == expected
    assert len(server.requests) == asked
