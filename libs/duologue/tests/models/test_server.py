"""What a model server's trouble leads to: another try, after how long, or an error of the right kind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from pydantic import ValidationError

from duologue.models import Endpoint, ModelRefused, ModelServer, ModelUnavailable
from duologue.models.completion import NOBODY, Caller
from duologue.models.patience import _pause
from duologue.models.replica import Replica
from tests.support.eventually import eventually
from tests.support.model_server import (
    CHAT,
    Answered,
    Dropped,
    Fault,
    Held,
    ModelRequest,
    ScriptedModelServer,
    Truncated,
    overloaded,
)

BODY: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Grüß Gott \ud83d\ude00"}]}
PASSING: list[Fault] = [
    overloaded(),
    Answered(408),
    Answered(425),
    Answered(500, "Internal Server Error"),
    Answered(502),
    Answered(503),
    Answered(504),
    Dropped(),
    Truncated(),
    Answered(200, "<html>a proxy's page</html>"),
    Answered(200, b"\xff\xfe"),
    Answered(200, "[1, 2]"),
    Answered(200, ""),
]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer() as server:
        yield server


async def post(endpoint: Endpoint) -> dict[str, Any]:
    async with ModelServer(endpoint) as models:
        return await ask(models)


async def ask(models: ModelServer) -> dict[str, Any]:
    async def post(replica: Replica) -> dict[str, Any]:
        content: dict[str, Any] = (await replica.connection.post(CHAT, BODY)).content
        return content

    return await models.ask(NOBODY, post)


async def test_an_answer_is_given_as_it_came(server: ScriptedModelServer) -> None:
    answer = await post(server.endpoint())
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Yes."}
    (request,) = server.requests
    assert request.body == BODY | {"messages": [{"role": "user", "content": "Grüß Gott 😀"}]}
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("fault", PASSING, ids=repr)
async def test_trouble_that_may_pass_is_met_with_another_try(server: ScriptedModelServer, fault: Fault) -> None:
    server.faults = [fault]
    await post(server.endpoint(patience_seconds=30))
    assert len(server.requests) == 2
    first, second = server.requests
    assert first.body == second.body


@pytest.mark.parametrize("fault", PASSING, ids=repr)
async def test_trouble_is_told_at_once_where_there_is_no_patience(server: ScriptedModelServer, fault: Fault) -> None:
    server.faults = [fault]
    with pytest.raises(ModelUnavailable, match=server.url):
        await post(server.endpoint(patience_seconds=0))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_refusal_is_told_at_once_with_what_the_server_says(server: ScriptedModelServer, status: int) -> None:
    server.faults = [Answered(status, '{"detail": "top_p must be below 1"}')]
    with pytest.raises(ModelRefused, match=rf"answered {status}: .*top_p must be below 1") as caught:
        await post(server.endpoint(patience_seconds=30))
    assert caught.value.status == status
    assert len(server.requests) == 1


async def test_of_a_long_answer_only_the_beginning_is_told(server: ScriptedModelServer) -> None:
    server.faults = [Answered(422, "x" * 100_000)]
    with pytest.raises(ModelRefused) as caught:
        await post(server.endpoint())
    assert len(str(caught.value)) < 500


async def test_a_server_that_names_a_time_is_left_alone_for_so_long(server: ScriptedModelServer) -> None:
    server.faults = [overloaded("1")]
    await post(server.endpoint(patience_seconds=30))
    first, second = server.requests
    assert second.at - first.at >= 1.0


async def test_the_time_that_a_server_named_is_passed_on_when_it_gives_no_way(server: ScriptedModelServer) -> None:
    server.faults = [overloaded("3600")]
    with pytest.raises(ModelUnavailable) as caught:
        await post(server.endpoint(patience_seconds=0))
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", "-5", "", None])
async def test_a_time_that_is_no_number_of_seconds_counts_as_none(
    server: ScriptedModelServer, value: str | None
) -> None:
    server.faults = [overloaded(value)]
    with pytest.raises(ModelUnavailable) as caught:
        await post(server.endpoint(patience_seconds=0))
    assert caught.value.retry_after == 0


def test_pauses_grow_and_are_never_longer_than_five_seconds() -> None:
    pauses = [max(_pause(time) for _ in range(200)) for time in range(1, 8)]
    assert all(later > earlier for earlier, later in itertools.pairwise(pauses[:4]))
    assert all(pause <= 5 for pause in pauses)


async def test_nobody_waits_longer_than_the_time_limit(server: ScriptedModelServer) -> None:
    never = asyncio.Event()
    server.faults = [Held(never)]
    with pytest.raises(ModelUnavailable, match="did not answer in time"):
        await post(server.endpoint(patience_seconds=0, timeout_seconds=0.1))


async def test_a_server_that_was_too_slow_once_is_asked_again(server: ScriptedModelServer) -> None:
    server.faults = [Held(asyncio.Event())]
    await post(server.endpoint(patience_seconds=30, timeout_seconds=0.2))


async def test_a_server_that_is_not_there_is_named(server: ScriptedModelServer) -> None:
    with pytest.raises(ModelUnavailable, match=r"http://127\.0\.0\.1:9/v1/chat/completions: .*Connect"):
        await post(server.endpoint(url="http://127.0.0.1:9", patience_seconds=0))


async def test_a_server_that_comes_back_between_two_tries_is_found(server: ScriptedModelServer) -> None:
    async with ModelServer(server.endpoint()) as models:
        await ask(models)
        server.faults = [Dropped(), Dropped()]
        await ask(models)
    assert len(server.requests) == 4


async def test_the_key_is_sent_as_a_bearer_token(server: ScriptedModelServer) -> None:
    await post(server.endpoint(api_key="s3cret-key"))
    await post(server.endpoint())
    await post(server.endpoint(api_key=""))
    with_key, without, empty = server.requests
    assert with_key.headers["Authorization"] == "Bearer s3cret-key"
    assert "Authorization" not in without.headers
    assert "Authorization" not in empty.headers


@pytest.mark.parametrize(
    "fault", [Answered(401, "wrong key"), Answered(500), Dropped(), Answered(200, "no json"), Held(asyncio.Event())]
)
async def test_the_key_is_in_no_error_and_no_log(server: ScriptedModelServer, fault: Fault) -> None:
    server.faults = [fault]
    endpoint = server.endpoint(api_key="s3cret-key", patience_seconds=0, timeout_seconds=0.2)
    with structlog.testing.capture_logs() as logs, pytest.raises((ModelRefused, ModelUnavailable)) as caught:
        await post(endpoint)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret-key" not in f"{error} {error!r}"
        error = error.__cause__
    assert "s3cret-key" not in f"{logs} {endpoint} {endpoint!r} {endpoint.model_dump_json()}"


async def test_requests_beyond_the_connections_wait_their_turn(server: ScriptedModelServer) -> None:
    release = asyncio.Event()
    server.faults = [Held(release) for _ in range(8)]
    async with ModelServer(server.endpoint(connections=3)) as models, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask(models))
        await server.arrived(3)
        release.set()
    assert server.busiest == 3
    assert len(server.requests) == 8


async def test_a_request_that_is_given_up_frees_its_connection(server: ScriptedModelServer) -> None:
    server.faults = [Held(asyncio.Event())]
    async with ModelServer(server.endpoint(connections=1)) as models:
        lost = asyncio.create_task(ask(models))
        await server.arrived(1)
        lost.cancel()
        async with asyncio.timeout(10):
            await ask(models)
    assert lost.cancelled()


async def test_a_url_may_end_in_a_slash(server: ScriptedModelServer) -> None:
    await post(server.endpoint(url=server.url + "/"))
    assert isinstance(server.requests[0], ModelRequest)


def test_credentials_in_a_url_are_refused() -> None:
    with pytest.raises(ValidationError, match="give them as api_key"):
        Endpoint(url="https://user:secret@host")
    assert Endpoint(url="https://host/models/@newest").url == "https://host/models/@newest"


async def test_a_server_that_refused_is_asked_again_though_another_one_answers(server: ScriptedModelServer) -> None:
    server.faults = [Answered(503)]
    async with (
        ScriptedModelServer() as other,
        ModelServer(other.endpoint(url=f"{server.url},{other.url}", patience_seconds=30)) as models,
    ):
        numbers = itertools.count()

        async def is_back() -> bool:
            dialogue = Caller("", str(next(numbers)))  # of which each prefers one of the two
            await models.ask(dialogue, lambda replica: replica.connection.post(CHAT, BODY))
            return len(server.requests) > 1

        await eventually(is_back, "the server that refused once is asked again")
        assert not models.replicas[0].gate.is_closed
