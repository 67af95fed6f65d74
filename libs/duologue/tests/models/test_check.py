"""Does a model server answer, and what is said and advised when it does not?"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duologue.models import ModelServer
from duologue.models.check import ModelCheck, check_adapter_of, check_chat, check_decisions
from duologue.models.fingerprint import Fingerprint, Probe
from tests.support.model_server import DECISIONS, Answered, Dropped, ScriptedModelServer
from tests.support.tgi_double import MODEL_ID, TgiDouble
from tests.support.tgi_requests import Limits

# What a person waits for when something is wrong.
_SOON_SECONDS = 5.0


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


def said(check: ModelCheck) -> str:
    """What a check found wrong, in time."""
    assert check.problem
    assert check.seconds < _SOON_SECONDS
    return check.problem


async def test_tgi_with_a_wrong_token_asks_for_the_right_one() -> None:
    async with TgiDouble(api_key="right") as tgi:
        (found,) = await check_chat("agent", tgi.endpoint(api_key="wrong"))
    assert "Set models.agent.api_key." in said(found)


async def test_tgi_that_serves_another_model_is_named_with_the_one_that_it_serves() -> None:
    async with TgiDouble() as tgi:
        (found,) = await check_chat("agent", tgi.endpoint(model="llama-70b"))
    assert f"The server serves {MODEL_ID!r}, not 'llama-70b'." in said(found)
    assert f"Set models.agent.model to {MODEL_ID}" in found.problem


async def test_a_context_that_is_too_short_for_a_dialogue_is_said_with_the_flag() -> None:
    async with TgiDouble(limits=Limits(input_tokens=512, total_tokens=1024)) as tgi:
        (found,) = await check_chat("client", tgi.endpoint())
    assert "The server takes 1024 tokens" in said(found)
    assert "--max-total-tokens" in found.problem


async def test_an_adapter_that_tgi_was_not_started_with_is_told_from_the_base_model() -> None:
    probe = Probe(messages=[{"role": "user", "content": "Who are you?"}], base="the base", adapter="the adapter")
    async with TgiDouble() as tgi, ModelServer(tgi.endpoint(patience_seconds=0)) as server:
        server.expect("desk-r1", Fingerprint(max_tokens=8, probes=[probe]))
        (found,) = await check_adapter_of("adapter", server, "desk-r1")
    assert "the adapter says 'the adapter'" in said(found)
    assert "This server must serve the adapter as 'desk-r1'" in found.problem


async def test_what_a_server_is_and_can_do_is_told() -> None:
    async with TgiDouble() as tgi:
        (found,) = await check_decisions("manager", tgi.endpoint())
    assert found.problem == ""
    assert found.found == (
        "TGI 3.3.6-dev0; letters under a regular expression; log-probabilities of 5; adapters by name, loaded at its "
        "start; 4096 tokens; 128 requests at once"
    )
