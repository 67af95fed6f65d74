"""The workflow manager's judgement: from probabilities to the next step (METHOD: structured prompting)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from duologue.core.dialogue import Decision
from duologue.core.workflow import SayNode, Workflow


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means: the client has left, or takes an edge, or asks for an anytime node, or none of these."""

    has_left: bool = False
    edge: str | None = None
    aside: str | None = None


def judge(decisions: Mapping[str, Decision], node: SayNode, workflow: Workflow) -> Verdict:
    """Which reply is a choice, whether any applies is a separate yes or no; the end is a decision, not a phrase.

    The client has left when that is likelier than that they answer: "no thanks, bye" at a node that leads to the
    closing is an answer, and the agent still gets to say goodbye.
    """
    applies = decisions["applies"].probabilities["yes"]
    ended = decisions["ended"].probabilities["yes"]
    if ended > max(applies, 0.5):
        return Verdict(has_left=True)
    if applies >= 0.5:
        chosen = decisions.get("reply")
        return Verdict(edge=chosen.answer if chosen is not None else next(iter(node.replies)))
    fallback = next((edge_id for edge_id, reply in node.replies.items() if reply.default), None)
    if fallback is not None:
        return Verdict(edge=fallback)
    return Verdict(aside=_aside(decisions, workflow))


def _aside(decisions: Mapping[str, Decision], workflow: Workflow) -> str | None:
    choice = decisions.get("aside")
    if choice is not None:
        return choice.answer if choice.probability >= 0.5 else None
    return next((name for name, anytime in workflow.anytime.items() if anytime.when), None)
