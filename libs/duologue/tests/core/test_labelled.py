"""Labelled questions: files that are sound or refused with the line, and questions as the manager was asked them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from duologue.core.dialogue import Role
from duologue.core.labelled import parse_labelled, questions_to_label, write_lines
from duologue.core.problems import InvalidInput
from duologue.core.prompts import PROMPTS_VERSION, manager_questions, manager_state
from duologue.core.scores import Utterance
from duologue.core.workflow import SayNode
from tests.support.desk import DESK, dialogue

REPLY = {"type": "choice", "instructions": "Which?", "criteria": {"a": "First.", "b": "Second."}}
OVER = {"type": "noul", "instructions": "Is it over?"}


def line(**changes: Any) -> dict[str, Any]:
    return {
        "prompts": PROMPTS_VERSION,
        "state": "Client: Hello.",
        "questions": {"reply": REPLY, "over": OVER},
        "answers": {"reply": "b", "over": None},
    } | changes


def text(*lines: Any) -> str:
    return "".join(json.dumps(each) + "\n" for each in lines)


def test_questions_come_back_as_they_are_asked_and_open_answers_are_none() -> None:
    (labelled,) = parse_labelled("\n" + text(line(dialogue="5d0f")), "q.jsonl")
    assert labelled.asked == {"reply": REPLY, "over": OVER}
    assert labelled.answered == {"reply": "b"}
    assert labelled.dialogue == "5d0f"


def test_what_is_written_is_read_as_the_same() -> None:
    labelled = parse_labelled(text(line(), line(state="two\u2028lines")), "q.jsonl")
    assert parse_labelled(write_lines(labelled), "q.jsonl") == labelled


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompts": "1"}, 'prompts is "1": this version words its questions otherwise'),
        ({"state": ""}, "state: String should have at least 1 character"),
        ({"state": None}, "state: should be text: put it in quotes"),
        ({"questions": {}}, "questions: needs at least 1"),
        ({"questions": {"reply": REPLY | {"type": "score"}}}, "questions.reply: 'type' is 'score', which is none of"),
        ({"questions": {"reply": {"type": "choice", "instructions": "?"}}}, "questions.reply.criteria is missing"),
        ({"questions": {"reply": REPLY | {"criteria": {"a": "One."}}}}, "questions.reply.criteria: needs at least 2"),
        ({"questions": {"over": OVER | {"criteria": {}}}}, "questions.over.criteria is not a known field"),
        ({"answers": {"reply": "c"}}, 'answers.reply is "c", which is no option\n    Use one of: a, b.'),
        ({"answers": {"over": "yess"}}, 'answers.over is "yess", which is no option\n    Did you mean "yes"?'),
        ({"answers": {"ovre": "yes"}}, 'answers.ovre answers no question of the line\n    Did you mean "over"?'),
        ({"answers": {"over": True}}, "answers.over: should be text: put it in quotes (got True)"),
        ({"label": "x"}, "label is not a known field"),
    ],
)
def test_a_wrong_line_is_named_with_its_field_and_the_fix(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_labelled(text(line(), line(**changes)), "q.jsonl")
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"q.jsonl:2: {said}")
    assert problem.fix


def test_all_wrong_lines_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_labelled(text(line(state=""), line(), line(questions={})) + "{no json\n[1]\n", "q.jsonl")
    assert [problem.line for problem in refused.value.problems] == [1, 3, 4, 5]


@pytest.mark.parametrize("content", ["", text(line(answers={"reply": None})), text(line(answers={}))])
def test_a_file_without_any_answer_is_refused(content: str) -> None:
    with pytest.raises(InvalidInput, match=r"q\.jsonl: no question has an answer"):
        parse_labelled(content, "q.jsonl")


def test_each_reply_of_a_dialogue_is_asked_about_with_the_facts_that_were_known_then() -> None:
    first, second = questions_to_label(dialogue(), DESK)
    greeting, answer = (turn.text for turn in dialogue().turns[:2])
    said = [Utterance(Role.AGENT, greeting), Utterance(Role.CLIENT, answer)]
    greet, tell = DESK.nodes["greet"], DESK.nodes["tell"]
    assert isinstance(greet, SayNode)
    assert isinstance(tell, SayNode)
    assert first.state == manager_state(said)
    assert first.asked == manager_questions(DESK, greet, {"code": "PK-4471"})
    known = {"code": "PK-4471", "place": "the depot at North Gate"}
    assert second.asked == manager_questions(DESK, tell, known)
    assert first.dialogue == dialogue().id
    assert (first.answers, first.answered) == (dict.fromkeys(first.questions), {})


def test_of_a_dialogue_that_walked_no_graph_nothing_is_asked() -> None:
    free = replace(dialogue(), turns=tuple(replace(turn, node="") for turn in dialogue().turns))
    assert list(questions_to_label(free, DESK)) == []
