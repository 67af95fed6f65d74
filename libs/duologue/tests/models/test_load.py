"""What servers say at /metrics reaches their gates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from duologue.models import Endpoint, ModelServer
from duologue.models.completion import NOBODY
from duologue.models.dialects import LLAMA_CPP, SGLANG, VLLM
from duologue.models.load import Load, load_of
from tests.support.eventually import eventually

VLLM_METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="base"} 5.0
vllm:num_requests_running{engine="1",model_name="base"} 4.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="base"} 2.0
vllm:num_requests_waiting{engine="1",model_name="base"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="base",reason="capacity"} 77.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="base"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="base"} 0.75
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="0.3",model_name="base"} 0.0
"""
assert VLLM.gauges is not None
assert SGLANG.gauges is not None
assert LLAMA_CPP.gauges is not None


def test_the_load_is_that_of_all_engines_together_and_of_the_fullest_memory() -> None:
    assert load_of(VLLM_METRICS, VLLM.gauges) == Load(9, 2, 0.75)


def test_a_server_that_tells_nothing_of_its_memory_has_a_load_all_the_same() -> None:
    text = "llamacpp:requests_processing 3\nllamacpp:requests_deferred 1\n"
    assert load_of(text, LLAMA_CPP.gauges) == Load(3, 1, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "vllm:num_requests_running 5",
        "vllm:num_requests_running{ 5\nvllm:num_requests_waiting 5\n",
        "vllm:num_requests_running five\nvllm:num_requests_waiting 5\n",
        "vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\n",
    ],
)
def test_a_page_that_does_not_tell_the_load_tells_none(text: str) -> None:
    assert load_of(text, VLLM.gauges) is None


class BusyServer:
    """Says that it is vLLM, and how busy it is."""

    def __init__(self, status: int = 200, page: str = VLLM_METRICS) -> None:
        self.status = status
        self.page = page
        self.looks = 0
        self.url = ""

    async def __aenter__(self) -> BusyServer:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "base", "owned_by": "vllm"}]})

    async def _metrics(self, _: web.Request) -> web.Response:
        self.looks += 1
        return web.Response(status=self.status, text=self.page)


@pytest.fixture
async def busy() -> AsyncIterator[BusyServer]:
    async with BusyServer() as server:
        yield server


async def test_while_requests_are_under_way_a_queue_at_the_server_lowers_the_limit(busy: BusyServer) -> None:
    busy.page = VLLM_METRICS.replace('base"} 2.0', 'base"} 40.0')
    async with ModelServer(Endpoint(url=busy.url, model="base")) as models:
        (replica,) = models.replicas
        await replica.capabilities()
        before = replica.gate.limit
        for _ in range(before):
            await replica.gate.enter(NOBODY)

        async def claim() -> bool:
            return replica.gate.limit < before

        await eventually(claim, "the limit is lowered")


async def test_neither_a_server_without_metrics_nor_one_with_nothing_to_do_is_looked_at_again(
    busy: BusyServer,
) -> None:
    async with AsyncExitStack() as stack:
        mute = await stack.enter_async_context(BusyServer(status=404))
        idle = await stack.enter_async_context(BusyServer())
        for server in (mute, idle, busy):
            models = await stack.enter_async_context(ModelServer(Endpoint(url=server.url, model="base")))
            (replica,) = models.replicas
            await replica.capabilities()
            if server is not idle:
                await replica.gate.enter(NOBODY)

        async def claim() -> bool:
            return busy.looks >= 3

        await eventually(claim, "a server that tells is looked at every second")
        assert (mute.looks, idle.looks) == (1, 0)
