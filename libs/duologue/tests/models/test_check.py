"""Does a model server answer, and what is said and advised when it does not?"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duologue.models.check import check_chat, check_decisions
from tests.support.model_server import DECISIONS, Answered, Dropped, ScriptedModelServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer() as server:
        yield server


async def test_a_server_that_answers_passes_the_check(server: ScriptedModelServer) -> None:
    (chat,) = await check_chat("client", server.endpoint())
    (decisions,) = await check_decisions("manager", server.endpoint())
    assert (chat.part, chat.url, chat.model, chat.problem) == ("client", server.url, "scripted", "")
    assert (decisions.part, decisions.problem) == ("manager", "")
    assert chat.seconds > 0
    assert server.requests[0].body["max_tokens"] == 1
    assert server.requests[1].path == DECISIONS


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (Answered(401, "no key"), "Set models.agent.api_key."),
        (Answered(400, "no model"), "check models.agent.model and models.agent.url."),
        (Answered(422, "no such field"), "check models.agent.model and models.agent.url."),
        (Answered(503), "check models.agent.model and models.agent.url."),
        (Dropped(), "check models.agent.model and models.agent.url."),
        (Answered(200, "{}"), "check models.agent.model and models.agent.url."),
    ],
)
async def test_a_check_that_fails_says_what_to_do_and_is_not_repeated(
    server: ScriptedModelServer, fault: Answered | Dropped, advice: str
) -> None:
    for check in (check_chat, check_decisions):
        server.requests.clear()
        server.faults = [fault]
        (found,) = await check("agent", server.endpoint(patience_seconds=30))
        assert advice in found.problem
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 404, 400])
async def test_an_unknown_model_is_named_with_those_that_the_server_lists(status: int) -> None:
    async with ScriptedModelServer(models=("tiny", "tiny-agent")) as server:
        server.faults = [Answered(status)]
        (found,) = await check_chat("agent", server.endpoint(model="tinny"))
    assert "does it serve 'tinny'? It lists tiny, tiny-agent.\n" in found.problem
    assert "models.agent.model" in found.problem
    assert "Start the server" not in found.problem


async def test_a_server_that_is_not_there_is_found_out_in_seconds(server: ScriptedModelServer) -> None:
    (found,) = await check_chat(
        "client", server.endpoint(url="http://127.0.0.1:9", patience_seconds=30, timeout_seconds=3600)
    )
    assert "models.client.url" in found.problem
    assert found.seconds < 5
