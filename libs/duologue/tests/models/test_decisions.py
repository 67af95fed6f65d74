"""Typed decisions: one request for all questions, a second look at what was close, and nothing taken on trust."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from duologue.core.prompts import Question
from duologue.models import DecisionModel, ModelServer, ModelUnavailable
from tests.support.metrics import told
from tests.support.model_server import DECISIONS, Answered, ScriptedModelServer

REPLY: Question = {
    "type": "choice",
    "instructions": "Which?",
    "criteria": {"a": "First.", "b": "Second.", "c": "Third."},
}
OVER: Question = {"type": "noul", "instructions": "Is it over?"}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer() as server:
        yield server


@pytest.fixture
async def manager(server: ScriptedModelServer) -> AsyncIterator[DecisionModel]:
    async with ModelServer(server.endpoint(patience_seconds=0)) as models:
        yield DecisionModel(models)


def answering(**answers: Any) -> Any:
    return lambda _, name, __: answers[name]


async def test_all_questions_are_asked_in_one_request(manager: DecisionModel, server: ScriptedModelServer) -> None:
    server.decide = answering(reply={"a": 0.7, "b": 0.2, "c": 0.1}, over=0.25)
    answers = await manager.ask("Client: Hello.", {"reply": REPLY, "over": OVER})
    (request,) = server.asked(DECISIONS)
    assert request.body == {
        "model": "scripted",
        "state": "Client: Hello.",
        "questions": {"reply": REPLY, "over": OVER},
    }
    assert answers.decisions["reply"].answer == "a"
    assert answers.decisions["reply"].probabilities == {"a": 0.7, "b": 0.2, "c": 0.1}
    assert answers.decisions["over"].answer == "no"
    assert answers.decisions["over"].probabilities == {"yes": 0.25, "no": 0.75}
    assert answers.usage.prompt_tokens == 60
    assert answers.usage.seconds > 0


async def test_a_choice_that_was_close_is_asked_again_the_other_way_round_and_averaged(
    manager: DecisionModel, server: ScriptedModelServer
) -> None:
    close = {"a": 0.43, "b": 0.37, "c": 0.2}
    again = {"a": 0.2, "b": 0.6, "c": 0.2}
    looks = [close, again]
    server.decide = lambda _, name, __: 0.5 if name == "over" else looks.pop(0)
    answers = await manager.ask("state", {"reply": REPLY, "over": OVER}, model="m")
    first, second = server.asked(DECISIONS)
    assert list(first.body["questions"]["reply"]["criteria"]) == ["a", "b", "c"]
    assert list(second.body["questions"]["reply"]["criteria"]) == ["c", "b", "a"]
    assert set(second.body["questions"]) == {"reply"}
    assert second.body["model"] == "m"
    decision = answers.decisions["reply"]
    assert decision.answer == "b"
    assert decision.probabilities == pytest.approx({"a": 0.315, "b": 0.485, "c": 0.2})
    assert answers.usage.prompt_tokens == 60 + 30


async def test_of_close_choices_only_those_that_count_are_asked_again(
    manager: DecisionModel, server: ScriptedModelServer
) -> None:
    server.decide = lambda *_: {"a": 0.35, "b": 0.33, "c": 0.32}
    await manager.ask("state", {"one": REPLY, "other": REPLY}, relevant=lambda _: {"other"})
    assert [set(request.body["questions"]) for request in server.asked(DECISIONS)] == [{"one", "other"}, {"other"}]


async def test_a_clear_choice_and_a_close_yes_or_no_are_asked_once(
    manager: DecisionModel, server: ScriptedModelServer
) -> None:
    server.decide = answering(reply={"a": 0.45, "b": 0.34, "c": 0.21}, over=0.5)
    answers = await manager.ask("state", {"reply": REPLY, "over": OVER})
    assert len(server.requests) == 1
    assert answers.decisions["over"].answer == "yes"


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"reply": {"type": "choice", "probabilities": {"a": 0.7, "b": 0.2, "c": 0.1}}},
        {"reply": {"type": "choice", "probabilities": {"a": 0.7, "b": 0.3}}, "over": {"noul": 0.5}},
        {"reply": {"type": "choice", "choice": "a"}, "over": {"noul": 0.5}},
        {"reply": {"probabilities": [0.7, 0.2, 0.1]}, "over": {"noul": 0.5}},
        {"reply": {"probabilities": {"a": 0.7, "b": 0.2, "c": 0.1}}, "over": {"noul": None}},
        {"reply": {"probabilities": {"a": 0.7, "b": 0.2, "c": 0.1}}, "over": {"noul": float("nan")}},
        {"reply": {"probabilities": {"a": float("inf"), "b": 0.2, "c": 0.1}}, "over": {"noul": 0.5}},
        {"reply": {"probabilities": {"a": 1.7, "b": 0.2, "c": 0.1}}, "over": {"noul": 0.5}},
        {"reply": {"probabilities": {"a": 0.7, "b": -0.2, "c": 0.1}}, "over": {"noul": 0.5}},
        {"reply": {"probabilities": {"a": "much", "b": 0.2, "c": 0.1}}, "over": {"noul": 0.5}},
        [],
    ],
    ids=json.dumps,
)
async def test_an_answer_of_another_shape_is_no_answer(
    manager: DecisionModel, server: ScriptedModelServer, answers: Any
) -> None:
    server.faults = [Answered(200, json.dumps({"model": "scripted", "answers": answers}))]
    with pytest.raises(ModelUnavailable, match="a decision answer of another shape"):
        await manager.ask("state", {"reply": REPLY, "over": OVER})


async def test_rounding_of_a_probability_is_forgiven(manager: DecisionModel, server: ScriptedModelServer) -> None:
    server.decide = answering(over=1.0000000001)
    answers = await manager.ask("state", {"over": OVER})
    assert answers.decisions["over"].probabilities == {"yes": 1.0, "no": 0.0}


async def test_a_server_that_counts_no_tokens_costs_none(manager: DecisionModel, server: ScriptedModelServer) -> None:
    server.faults = [Answered(200, '{"answers": {"over": {"noul": 0.9}}, "usage": null}')]
    assert (await manager.ask("state", {"over": OVER})).usage.prompt_tokens == 0


async def test_tokens_that_were_written_for_an_answer_count_too(
    manager: DecisionModel, server: ScriptedModelServer
) -> None:
    usage = '{"input_tokens": 9, "output_tokens": 4}'
    server.faults = [Answered(200, f'{{"answers": {{"over": {{"noul": 0.9}}}}, "usage": {usage}}}')]
    answers = await manager.ask("state", {"over": OVER})
    assert (answers.usage.prompt_tokens, answers.usage.completion_tokens) == (9, 4)


async def test_tokens_that_a_server_tells_of_are_counted(manager: DecisionModel, server: ScriptedModelServer) -> None:
    server.decide = answering(over=0.25)
    await manager.ask("Client: Hello.", {"over": OVER})
    assert told("duologue_model_tokens_total", server=server.url, kind="prompt") == 30
    assert told("duologue_model_tokens_total", server=server.url, kind="completion") == 0
