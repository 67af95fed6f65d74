"""A real server, `transformers serve`, with the project's tiny model: real tokens and decisions through the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from duologue.core.prompts import Message, Question
from duologue.models import ChatModel, DecisionModel, Endpoint, ModelRefused, ModelServer, ModelUnavailable, Sampling
from duologue.models.check import check_chat, check_decisions
from duologue.models.completion import GREEDY
from duologue.models.dialects import OTHER
from tests.support.requirements import ROOT, require_ml
from tests.support.transformers_server import transformers_server

MODEL = str(ROOT / "deploy/local/tiny/model")
SHOP: list[Message] = [
    {"role": "system", "content": "You are the desk of a bike workshop. You talk to a client. Be brief."},
    {"role": "user", "content": "[Say now: Which brand is it?]"},
]
STATE = "Agent: Has it got a motor or is it a normal one?\nClient: It has a motor."
REPLY: Question = {
    "type": "choice",
    "instructions": "Which reply is the client's?",
    "criteria": {"motor": "It has a motor.", "normal": "It is a normal one."},
}
OVER: Question = {"type": "noul", "instructions": "Is the conversation over?"}

pytestmark = pytest.mark.timeout(600)  # a busy machine needs minutes to import torch


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require_ml()
    with transformers_server(tmp_path_factory.mktemp("serve")) as url:
        yield url


@pytest.fixture
def endpoint(url: str) -> Endpoint:
    return Endpoint(url=url, model=MODEL, patience_seconds=0)


@pytest.fixture
async def server(endpoint: Endpoint) -> AsyncIterator[ModelServer]:
    async with ModelServer(endpoint) as server:
        yield server


async def test_it_is_asked_only_what_all_servers_take(server: ModelServer) -> None:
    known = await server.replicas[0].capabilities()
    assert (known.api, known.dialect) == ("openai", OTHER)


async def test_it_says_what_it_is_told_to_in_its_own_tokens(server: ModelServer) -> None:
    completion = await ChatModel(server).complete(SHOP, GREEDY)
    assert completion.text == "Which brand is it?"
    assert not completion.is_cut
    assert completion.prompt_tokens > completion.completion_tokens > 0
    assert (await ChatModel(server).complete(SHOP, GREEDY)).text == completion.text


async def test_an_answer_that_ran_into_the_limit_is_cut(server: ModelServer) -> None:
    completion = await ChatModel(server).complete(SHOP, Sampling(0.0, 1.0, 2))
    assert (completion.is_cut, completion.completion_tokens) == (True, 2)


async def test_what_it_stopped_at_is_not_part_of_the_answer(server: ModelServer) -> None:
    completion = await ChatModel(server).complete(SHOP, GREEDY, stop=("brand",))
    assert (completion.text, completion.is_cut) == ("Which ", False)


async def test_a_seed_repeats_what_was_drawn(server: ModelServer) -> None:
    drawn = [(await ChatModel(server).complete(SHOP, Sampling(1.5, 0.99, 20), seed=seed)).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]


async def test_typed_questions_are_all_answered_in_one_request(server: ModelServer) -> None:
    answers = await DecisionModel(server).ask(STATE, {"reply": REPLY, "over": OVER})
    assert {name: decision.answer for name, decision in answers.decisions.items()} == {"reply": "motor", "over": "no"}
    for decision in answers.decisions.values():
        assert sum(decision.probabilities.values()) == pytest.approx(1)
    assert answers.usage.prompt_tokens > 0
    assert server.replicas[0].has_systemone


async def test_it_knows_when_a_conversation_is_over(server: ModelServer) -> None:
    answers = await DecisionModel(server).ask("Agent: Goodbye!\nClient: Thank you, goodbye!", {"over": OVER})
    assert answers.decisions["over"].answer == "yes"


async def test_letters_are_not_decided_without_log_probabilities_which_it_leaves_out(endpoint: Endpoint) -> None:
    async with ModelServer(endpoint.model_copy(update={"decisions": "labels"})) as server:
        with pytest.raises(ModelRefused, match="neither log-probabilities nor regular expressions"):
            await DecisionModel(server).ask(STATE, {"reply": REPLY})


async def test_words_in_place_of_letters_decide_nothing(endpoint: Endpoint) -> None:
    """The tiny model never learnt letters."""
    async with ModelServer(endpoint.model_copy(update={"decisions": "text"})) as server:
        with pytest.raises(ModelRefused, match="answered none of the questions: 'It "):
            await DecisionModel(server).ask(STATE, {"reply": REPLY})


async def test_the_doctor_finds_it_well_and_a_model_that_is_not_there_missing(endpoint: Endpoint) -> None:
    checks = [*await check_chat("agent", endpoint), *await check_decisions("manager", endpoint)]
    assert [check.problem for check in checks] == ["", ""]
    (missing,) = await check_chat("agent", endpoint.model_copy(update={"model": "no/such"}))
    assert "does it serve 'no/such'?" in missing.problem


async def test_a_model_that_is_not_there_is_trouble_that_may_pass(endpoint: Endpoint) -> None:
    async with ModelServer(endpoint) as server:
        with pytest.raises(ModelUnavailable, match="answered 500"):
            await ChatModel(server).complete(SHOP, GREEDY, model="no/such")
