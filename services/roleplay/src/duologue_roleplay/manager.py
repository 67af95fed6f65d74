"""The workflow manager: what a client's reply means, and what the agent is told then (METHOD: structured prompting)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from duologue.core.dialogue import Decision
from duologue.core.prompts import NO_ASIDE, Question, ask_again, manager_questions, manager_state, say_now
from duologue.core.scores import Utterance
from duologue.core.workflow import EndNode, SayNode, Workflow, fill
from duologue.models import Caller, DecisionModel
from duologue.models.answers import Answers
from duologue_roleplay.graph import GraphPosition

# Without structured prompting only this is asked.
_HAS_ENDED: Mapping[str, Question] = {"ended": {"type": "noul", "instructions": "Is the conversation over?"}}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply means: the client has left, or takes an edge, or asks for an anytime node, or none of these."""

    has_left: bool = False
    edge: str | None = None
    aside: str | None = None


class Cue(NamedTuple):
    """What the agent is told for its next turn, and the node that it performs so.

    `again`: to ask once more what it has asked.
    """

    instruction: str
    node: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What a manager looks at: the talk up to the client's reply, and the node that it answers.

    `node` is None without structured prompting: then only whether the client has left is of interest.
    """

    history: Sequence[Utterance]
    node: SayNode | None
    workflow: Workflow
    facts: Mapping[str, str]
    model: str
    caller: Caller


class Manager(Protocol):
    """One way to manage a dialogue. Each preset has its own; the graph and the turns are the same for all."""

    def default_model(self, client_model: str) -> str:
        """The model that is asked where the plan names none."""
        ...

    def calibration_of(self, model: str) -> str:
        """At which temperatures that model's answers are given; "" for its own."""
        ...

    async def weigh(self, scene: Scene) -> tuple[Verdict, Answers]:
        """What the client's reply means, and the decisions that it was found by."""
        ...

    def recover(self, verdict: Verdict, position: GraphPosition) -> Cue:
        """What the agent is told after a reply that takes no edge."""
        ...


class DecidingManager:
    """Asks all that there is to decide as typed questions, in one request."""

    def __init__(self, model: DecisionModel) -> None:
        self._model = model

    def default_model(self, client_model: str) -> str:
        return self._model.default_model

    def calibration_of(self, model: str) -> str:
        return self._model.calibration_of(model)

    async def weigh(self, scene: Scene) -> tuple[Verdict, Answers]:
        node, workflow = scene.node, scene.workflow
        questions = _HAS_ENDED if node is None else manager_questions(workflow, node, scene.facts)
        state = manager_state(scene.history)
        answers = await self._model.ask(
            state, questions, model=scene.model, relevant=relevant_choices, caller=scene.caller
        )
        if node is None:
            return Verdict(has_left=answers.decisions["ended"].answer == "yes"), answers
        return judge(answers.decisions, node, workflow), answers

    def recover(self, verdict: Verdict, position: GraphPosition) -> Cue:
        """What the anytime node says comes before the question; without one the agent answers on its own."""
        if verdict.aside is None:
            return Cue(ask_again(position.reference), position.name, again=True)
        aside = fill(position.workflow.anytime[verdict.aside].text, position.facts)
        return Cue(say_now(f"{aside} {position.reference}"), verdict.aside, again=True)


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
