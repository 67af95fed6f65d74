"""Several servers of one model: who is asked, and when another one; deadlines, and what becomes of a lost race."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from duologue.models import Caller, Endpoint, ModelRefused, ModelServer, ModelUnavailable
from duologue.models.completion import NOBODY
from duologue.models.replica import Replica
from tests.support.eventually import eventually
from tests.support.model_fault_proxy import Hang, ModelFaultProxy, Reset
from tests.support.model_server import CHAT, Answered, ScriptedModelServer, overloaded

BODY = {"model": "scripted", "messages": [{"role": "user", "content": "Hello."}]}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer() as server:
        yield server


@pytest.fixture
async def proxies(server: ScriptedModelServer) -> AsyncIterator[list[ModelFaultProxy]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(ModelFaultProxy(server.url)) for _ in range(3)]


def models_at(*proxies: ModelFaultProxy, **changes: Any) -> ModelServer:
    urls = ",".join(proxy.url for proxy in proxies)
    return ModelServer(Endpoint(**{"url": urls, "model": "scripted", "timeout_seconds": 60.0} | changes))


async def ask(models: ModelServer, dialogue: str = "", deadline: float | None = None) -> str:
    """The URL of the server that answered."""

    async def post(replica: Replica) -> str:
        await replica.connection.post(CHAT, BODY)
        return replica.url

    return await models.ask(Caller("campaign", dialogue, deadline), post)


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def first_of(models: ModelServer, dialogue: str) -> str:
    return models._order(Caller("", dialogue))[0].url


async def test_each_dialogue_has_one_server_and_all_servers_have_dialogues(proxies: list[ModelFaultProxy]) -> None:
    async with models_at(*proxies) as models:
        servers = {name: {await ask(models, name) for _ in range(3)} for name in map(str, range(30))}
    assert all(len(urls) == 1 for urls in servers.values())
    assert {url for urls in servers.values() for url in urls} == {proxy.url for proxy in proxies}


async def test_when_a_server_goes_only_its_dialogues_move(proxies: list[ModelFaultProxy]) -> None:
    gone, *left = proxies
    async with models_at(*proxies) as all_of_them, models_at(*left) as fewer:
        for name in map(str, range(50)):
            before = first_of(all_of_them, name)
            assert before == gone.url or first_of(fewer, name) == before


async def test_a_server_that_is_full_for_a_moment_keeps_its_dialogues(proxies: list[ModelFaultProxy]) -> None:
    async with models_at(*proxies) as models:
        mine = next(replica for replica in models.replicas if replica.url == first_of(models, "d"))
        for _ in range(mine.gate.limit):
            await mine.gate.enter(NOBODY)
        waiting = asyncio.create_task(ask(models, "d"))
        await asyncio.sleep(0)
        assert mine.gate.waiting == 1
        mine.gate.leave()
        assert await waiting == mine.url


async def test_a_server_before_which_a_crowd_waits_leaves_dialogues_to_one_with_room(
    proxies: list[ModelFaultProxy],
) -> None:
    async with models_at(*proxies) as models:
        mine = next(replica for replica in models.replicas if replica.url == first_of(models, "d"))
        crowd = [asyncio.create_task(mine.gate.enter(NOBODY)) for _ in range(2 * mine.gate.limit)]
        await asyncio.sleep(0)
        assert await ask(models, "d") != mine.url
        for task in crowd:
            task.cancel()


async def test_whoever_waits_for_a_server_that_goes_away_is_answered_by_another(
    proxies: list[ModelFaultProxy],
) -> None:
    async with models_at(*proxies) as models:
        mine = next(replica for replica in models.replicas if replica.url == first_of(models, "d"))
        for _ in range(mine.gate.limit):
            await mine.gate.enter(NOBODY)
        waiting = asyncio.create_task(ask(models, "d"))
        await asyncio.sleep(0)
        mine.lost(ModelUnavailable("gone"))
        assert await waiting != mine.url


async def test_of_a_server_that_was_away_one_request_finds_out_whether_it_is_back(
    proxies: list[ModelFaultProxy],
) -> None:
    async with models_at(*proxies, timeout_seconds=1.0) as models:
        mine = next(proxy for proxy in proxies if proxy.url == first_of(models, "d"))
        mine.fault = Hang()
        await ask(models, "d")
        (replica,) = (replica for replica in models.replicas if replica.url == mine.url)

        async def claim() -> bool:
            return replica.is_there

        await eventually(claim, "it is time to find out")
        struck = mine.struck
        await asyncio.gather(*(ask(models, "d") for _ in range(20)))
        assert mine.struck == struck + 1


async def test_the_log_says_once_that_a_server_is_away_and_once_that_it_is_back(
    proxies: list[ModelFaultProxy],
) -> None:
    (mine, *_) = proxies
    async with models_at(mine, patience_seconds=1.0) as models:
        mine.fault = Reset()
        with capture_logs() as logs:
            outcomes = await asyncio.gather(*(ask(models) for _ in range(5)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {ModelUnavailable}
            mine.fault = None
            await ask(models)
            await ask(models)
    assert [(entry["log_level"], entry["server"]) for entry in logs] == [("warning", mine.url), ("info", mine.url)]


async def test_a_request_that_fails_everywhere_pauses_between_its_rounds(
    server: ScriptedModelServer, proxies: list[ModelFaultProxy]
) -> None:
    server.faults = [Answered(500, "this prompt breaks me")] * 1000
    async with models_at(*proxies, patience_seconds=1.5) as models:
        with pytest.raises(ModelUnavailable, match="this prompt breaks me"):
            await ask(models)
    assert 2 * len(proxies) <= len(server.requests) <= 8 * len(proxies)


async def test_a_refusal_is_not_asked_of_another_server(
    server: ScriptedModelServer, proxies: list[ModelFaultProxy]
) -> None:
    server.faults = [Answered(401, "wrong key")]
    async with models_at(*proxies) as models:
        with pytest.raises(ModelRefused, match="wrong key"):
            await ask(models)
    assert len(server.requests) == 1


async def test_patience_ends_for_those_too_who_wait_before_a_server_that_refuses_everybody(
    server: ScriptedModelServer,
) -> None:
    server.faults = [overloaded()] * 1000
    async with ModelServer(server.endpoint(patience_seconds=1.0)) as models, asyncio.timeout(30):
        asked = await asyncio.gather(*(ask(models) for _ in range(40)), return_exceptions=True)
    assert all(isinstance(error, ModelUnavailable) for error in asked)
    assert len(server.requests) < 40


# Deadlines


async def test_nobody_is_asked_any_longer_than_somebody_waits(proxies: list[ModelFaultProxy]) -> None:
    proxy = proxies[0]
    proxy.fault = Hang()
    async with models_at(proxy) as models:
        with pytest.raises(ModelUnavailable, match="did not answer while anybody waited"):
            await ask(models, deadline=in_seconds(0.2))
        await proxy.is_left()
        assert models.replicas[0].gate.running == 0


async def test_whoever_waits_before_the_gate_goes_at_the_deadline_and_asks_nothing(
    proxies: list[ModelFaultProxy],
) -> None:
    async with models_at(proxies[0]) as models:
        (replica,) = models.replicas
        for _ in range(replica.gate.limit):
            await replica.gate.enter(NOBODY)
        with pytest.raises(ModelUnavailable, match="did not answer while anybody waited"):
            await ask(models, deadline=in_seconds(0.1))
        assert (replica.gate.waiting, replica.gate.running) == (0, replica.gate.limit)
    assert proxies[0].passed == []


async def test_trouble_that_will_not_pass_before_the_deadline_is_told_at_once(server: ScriptedModelServer) -> None:
    server.faults = [Answered(500, "broken")] * 1000
    async with ModelServer(server.endpoint()) as models:
        with pytest.raises(ModelUnavailable, match="broken"):
            await ask(models, deadline=in_seconds(1.0))


async def test_a_request_that_is_given_up_is_dropped_at_the_server_too(proxies: list[ModelFaultProxy]) -> None:
    proxy = proxies[0]
    proxy.fault = Hang()
    async with models_at(proxy) as models:
        lost = asyncio.create_task(ask(models))
        await proxy.has_struck(1)
        lost.cancel()
        await proxy.is_left()


# Hedging


async def test_by_default_a_slow_server_is_waited_for(proxies: list[ModelFaultProxy]) -> None:
    async with models_at(*proxies) as models:
        mine = next(proxy for proxy in proxies if proxy.url == first_of(models, "d"))
        mine.fault = Hang()
        with pytest.raises(ModelUnavailable):
            await ask(models, "d", in_seconds(0.5))
    assert sum(len(proxy.passed) for proxy in proxies) == 0


async def test_with_hedging_a_second_server_answers_for_a_slow_one_which_is_then_left(
    proxies: list[ModelFaultProxy],
) -> None:
    async with models_at(*proxies, hedge_seconds=0.1) as models:
        mine = next(proxy for proxy in proxies if proxy.url == first_of(models, "d"))
        mine.fault = Hang()
        assert await ask(models, "d") != mine.url
        await mine.is_left()
        assert [replica.gate.running for replica in models.replicas] == [0, 0, 0]
    assert sum(len(proxy.passed) for proxy in proxies) == 1


async def test_with_hedging_a_server_that_answers_in_time_is_the_only_one_asked(
    proxies: list[ModelFaultProxy],
) -> None:
    async with models_at(*proxies, hedge_seconds=30) as models:
        assert await ask(models, "d") == first_of(models, "d")
    assert sum(len(proxy.passed) for proxy in proxies) == 1


async def test_with_hedging_one_server_alone_is_waited_for(proxies: list[ModelFaultProxy]) -> None:
    proxies[0].fault = Hang()
    async with models_at(proxies[0], hedge_seconds=0.1) as models:
        with pytest.raises(ModelUnavailable):
            await ask(models, deadline=in_seconds(0.5))
    assert proxies[0].struck == 1
