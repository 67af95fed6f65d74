"""The workflow manager's judgement: from probabilities to the next step (METHOD: structured prompting)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from duologue.core.dialogue import Decision
from duologue.core.prompts import NO_ASIDE
from duologue.core.workflow import EndNode, SayNode, Workflow


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means: the client has left, or takes an edge, or asks for an anytime node, or none of these."""

    has_left: bool = False
    edge: str | None = None
    aside: str | None = None


def judge(decisions: Mapping[str, Decision], node: SayNode, workflow: Workflow) -> Verdict:
    """Which reply is a choice, whether any applies is a separate yes or no; the end is a decision, not a phrase.

    The client has left when that is likelier than that they answer, unless the answer leads to a closing: after "no
    thanks, bye" the agent still gets to say goodbye. A reply that is no answer may ask for an anytime node; else the
    node's default edge is taken, if it has one.
    """
    applies = decisions["applies"].probabilities["yes"]
    ended = decisions["ended"].probabilities["yes"]
    chosen = decisions.get("reply")
    edge = chosen.answer if chosen is not None else next(iter(node.replies))
    closes = applies >= 0.5 and isinstance(workflow.nodes[node.replies[edge].to], EndNode)
    if ended > max(applies, 0.5) and not closes:
        return Verdict(has_left=True)
    if applies >= 0.5:
        return Verdict(edge=edge)
    aside = decisions.get("aside")
    if aside is not None and aside.answer != NO_ASIDE:
        return Verdict(aside=aside.answer)
    return Verdict(edge=next((edge_id for edge_id, reply in node.replies.items() if reply.default), None))


def relevant_choices(decisions: Mapping[str, Decision]) -> set[str]:
    """The choices that `judge` looks at, by what the other answers are."""
    return {"reply" if decisions["applies"].probabilities["yes"] >= 0.5 else "aside"}
