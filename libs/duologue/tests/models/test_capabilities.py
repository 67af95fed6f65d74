"""What a server is, found by asking it, also when it does not answer as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from duologue.models import ModelUnavailable, capabilities
from duologue.models.capabilities import Capabilities, probe
from duologue.models.connection import Connection
from duologue.models.dialects import OTHER, VLLM
from duologue.models.endpoint import Endpoint
from tests.support.answering_server import AnsweringServer, Asked, Reply
from tests.support.tgi_double import TgiDouble
from tests.support.tgi_requests import Limits

VLLM_LISTS = {"data": [{"id": "base", "owned_by": "vllm", "max_model_len": 4096}, {"id": "tuned", "owned_by": "vllm"}]}
GARBAGE = [
    b"",
    b"<html>a page</html>",
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"router": 5}',
    b'{"data": "none"}',
    b'{"data": [1]}',
]


async def found(server: AnsweringServer | TgiDouble, api: str = "auto", model: str = "base") -> Capabilities:
    endpoint = server.endpoint()
    async with Connection(server.url, endpoint) as connection:
        return await probe(connection, api, model)  # type: ignore[arg-type]


async def test_tgi_is_known_by_its_info_with_its_limits() -> None:
    async with TgiDouble(limits=Limits(concurrent_requests=7, total_tokens=3000)) as tgi:
        known = await found(tgi)
    assert (known.api, known.max_tokens, known.most_requests, known.most_stops) == ("tgi", 3000, 7, 4)
    assert not known.loads_adapters


async def test_tgi_is_asked_as_openai_where_the_settings_say_so() -> None:
    async with TgiDouble() as tgi:
        known = await found(tgi, api="openai")
    assert (known.api, known.dialect) == ("openai", OTHER)
    assert known.models == ("/data/model",)


async def test_another_server_is_not_taken_for_tgi_though_the_settings_say_so() -> None:
    async with AnsweringServer({"/v1/models": Reply(VLLM_LISTS)}) as server:
        with pytest.raises(ModelUnavailable, match="/info does not answer as TGI's does"):
            await found(server, api="tgi")


@pytest.mark.parametrize("info", [{"router": "another"}, {"router": "text-generation-router"}, {"version": "1"}])
async def test_an_info_of_another_server_is_not_tgi_s(info: object) -> None:
    async with AnsweringServer({"/info": Reply(info), "/v1/models": Reply(VLLM_LISTS)}) as server:
        assert (await found(server)).dialect is VLLM


@pytest.mark.parametrize(("model", "tokens"), [("base", 4096), ("tuned", 0), ("unknown", 0)])
async def test_the_length_is_that_of_the_model_that_is_asked_for(model: str, tokens: int) -> None:
    async with AnsweringServer({"/v1/models": Reply(VLLM_LISTS)}) as server:
        known = await found(server, model=model)
    assert known.max_tokens == tokens
    assert known.models == ("base", "tuned")


@pytest.mark.parametrize("content", GARBAGE, ids=repr)
async def test_garbage_is_not_taken_for_an_answer(content: bytes) -> None:
    async with AnsweringServer({"/info": Reply(content), "/v1/models": Reply(content)}) as server:
        known = await found(server)
    assert (known.dialect, known.models, known.max_tokens) == (OTHER, (), 0)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
async def test_a_server_that_does_not_say_what_it_is_is_asked_only_what_all_take(status: int) -> None:
    async with AnsweringServer({"/info": Reply("", status), "/v1/models": Reply("", status)}) as server:
        assert (await found(server)).dialect is OTHER


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_what_a_server_is_that_starts_or_is_full_is_asked_again(status: int) -> None:
    async with AnsweringServer({"/info": Reply("", status), "/v1/models": Reply("", status)}) as server:
        with pytest.raises(ModelUnavailable):
            await found(server)


async def test_a_server_that_needs_a_key_is_asked_with_it() -> None:
    def models(asked: Asked) -> Reply:
        return Reply(VLLM_LISTS) if asked.headers.get("Authorization") == "Bearer s3cret" else Reply("", 401)

    async with AnsweringServer({"/v1/models": models}) as server:
        endpoint: Endpoint = server.endpoint(api_key="s3cret")
        async with Connection(server.url, endpoint) as connection:
            assert (await probe(connection, "auto", "base")).dialect is VLLM
        assert (await found(server)).dialect is OTHER


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that takes connections and says nothing."""
    never = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await never.wait()
        finally:
            writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        never.set()
        server.close()
        await server.wait_closed()


async def test_a_server_that_hangs_is_given_up_within_the_time_of_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "PROBE_SECONDS", 0.1)
    async with silent() as url, Connection(url, Endpoint(url=url)) as connection:
        with pytest.raises(ModelUnavailable, match="/info did not answer in time"):
            await probe(connection, "auto", "base")
        with pytest.raises(ModelUnavailable, match="/v1/models did not answer in time"):
            await probe(connection, "openai", "base")


async def test_a_server_that_is_not_there_is_named() -> None:
    url = "http://127.0.0.1:9"
    async with Connection(url, Endpoint(url=url)) as connection:
        with pytest.raises(ModelUnavailable, match=r"http://127\.0\.0\.1:9/info"):
            await probe(connection, "auto", "base")
