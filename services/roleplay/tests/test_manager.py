"""From the manager's probabilities to the next step."""

from __future__ import annotations

import pytest

from duologue.core.dialogue import Decision
from duologue.core.prompts import NO_ASIDE
from duologue.core.workflow import SayNode, Workflow
from duologue_roleplay.manager import Verdict, judge, relevant_choices
from tests.support.desk import DESK, SHOP

ASIDE = {"out_of_scope": 0.9, "person": 0.1}


def node(workflow: Workflow, name: str) -> SayNode:
    found = workflow.nodes[name]
    assert isinstance(found, SayNode)
    return found


def answers(
    applies: float, ended: float = 0.0, reply: str | None = "gives_code", aside: dict[str, float] | None = None
) -> dict[str, Decision]:
    found = {}
    if reply is not None:
        found["reply"] = Decision("reply", reply, {reply: 0.8})
    found["applies"] = yes_or_no("applies", applies)
    if aside is not None:
        found["aside"] = Decision("aside", max(aside, key=aside.__getitem__), aside)
    found["ended"] = yes_or_no("ended", ended)
    return found


def yes_or_no(name: str, yes: float) -> Decision:
    return Decision(name, "yes" if yes >= 0.5 else "no", {"yes": yes, "no": 1 - yes})


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        pytest.param(answers(0.9), Verdict(edge="gives_code"), id="the chosen reply is taken when one applies"),
        pytest.param(answers(0.5, reply="no_code"), Verdict(edge="no_code"), id="even odds count as an answer"),
        pytest.param(answers(0.1, aside=ASIDE), Verdict(aside="out_of_scope"), id="none applies: the anytime node"),
        pytest.param(
            answers(0.1, aside={"out_of_scope": 0.3, "person": 0.2, NO_ASIDE: 0.5}), Verdict(), id="nor an anytime node"
        ),
        pytest.param(answers(0.1, ended=0.9), Verdict(has_left=True), id="the conversation is over"),
        pytest.param(answers(0.1, ended=0.5, aside=ASIDE), Verdict(aside="out_of_scope"), id="even odds are no end"),
        pytest.param(answers(0.95, ended=0.9), Verdict(edge="gives_code"), id="a farewell that answers is an answer"),
        pytest.param(answers(0.6, ended=0.9), Verdict(has_left=True), id="likelier over than answered"),
        pytest.param(
            answers(0.6, ended=0.9, reply="no_code"), Verdict(edge="no_code"), id="an answer that leads to the closing"
        ),
        pytest.param(answers(0.4, ended=0.9, reply="no_code"), Verdict(has_left=True), id="no answer, and over"),
    ],
)
def test_what_a_reply_means(found: dict[str, Decision], verdict: Verdict) -> None:
    assert judge(found, node(DESK, "greet"), DESK) == verdict


def test_the_only_reply_of_a_node_is_taken_without_a_choice() -> None:
    assert judge(answers(0.9, reply=None), node(DESK, "ask_sender"), DESK) == Verdict(edge="please")


def test_where_no_reply_applies_the_default_edge_is_taken_unless_an_anytime_node_is_wanted() -> None:
    tell = node(DESK, "tell")
    assert judge(answers(0.0, reply="another", aside=ASIDE), tell, DESK) == Verdict(aside="out_of_scope")
    assert judge(answers(0.0, reply="another", aside={NO_ASIDE: 1.0}), tell, DESK) == Verdict(edge="nothing")


def test_only_the_choice_that_is_looked_at_matters() -> None:
    assert relevant_choices(answers(0.9, aside=ASIDE)) == {"reply"}
    assert relevant_choices(answers(0.1, aside=ASIDE)) == {"aside"}


def test_without_anytime_nodes_a_stray_reply_means_nothing() -> None:
    assert judge(answers(0.1, reply=None), node(SHOP, "ask_why"), SHOP) == Verdict()
