"""Where a dialogue stands in its workflow. The position is ours, not the model's; nothing here asks a model."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from duologue.core.dialogue import Role, ToolCall, Turn
from duologue.core.workflow import CallNode, Intention, SpokenNode, Workflow, fill

# After so many calls in a row none leads back any more: there is a way on without a loop, that was checked on load.
_MOST_CALLS = 20


@dataclass
class GraphPosition:
    """A walk over the workflow. Calls on the way are performed as they are met and leave tool turns behind.

    What is drawn follows from `seed` and how often was drawn before: a generator of its own for each walk would be two
    and a half kilobytes, to be copied with every fork.
    """

    workflow: Workflow
    intention: Intention
    seed: int
    facts: dict[str, str] = field(init=False)
    name: str = field(init=False, default="")
    _pinned: set[str] = field(init=False, default_factory=set)
    _draws: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.facts = dict(self.intention.facts)

    @property
    def node(self) -> SpokenNode:
        return self.workflow.spoken[self.name]

    @property
    def reference(self) -> str:
        """What the agent is to say here, with the facts filled in."""
        return fill(self.node.text, self.facts)

    def enter(self) -> list[Turn]:
        """Go to the workflow's start."""
        return self._go_to(self.workflow.start)

    def follow(self, edge_id: str) -> list[Turn]:
        """Take an edge of the present node; the tool turns of the calls on the way to the next spoken node."""
        return self._go_to(self.node.edges[edge_id].to)

    def fork(self) -> GraphPosition:
        """A walk of its own from here on. What it draws on the way, this one draws too when it goes the same way."""
        other = GraphPosition(self.workflow, self.intention, self.seed)
        other.facts, other.name = dict(self.facts), self.name
        other._pinned, other._draws = set(self._pinned), self._draws
        return other

    def _go_to(self, name: str) -> list[Turn]:
        turns: list[Turn] = []
        node = self.workflow.nodes[name]
        while isinstance(node, CallNode):
            outcome_id = self._outcome(name, node, may_loop=len(turns) < _MOST_CALLS)
            outcome = node.outcomes[outcome_id]
            returns = {fact: fill(value, self.facts) for fact, value in outcome.returns.items()}
            arguments = {argument: fill(value, self.facts) for argument, value in node.arguments.items()}
            call = ToolCall(node.call, arguments, outcome_id, returns)
            turns.append(Turn(Role.TOOL, f"{node.call}: {outcome_id}", node=name, call=call))
            self.facts |= returns
            name, node = outcome.to, self.workflow.nodes[outcome.to]
        self.name = name
        return turns

    def _outcome(self, name: str, node: CallNode, may_loop: bool) -> str:
        """The intention's, the first time; after that the default or one that is drawn, not in circles for ever."""
        pinned = self.intention.outcomes.get(name)
        if pinned is not None and name not in self._pinned:
            self._pinned.add(name)
            return pinned
        possible = {key: outcome for key, outcome in node.outcomes.items() if may_loop or not outcome.loop}
        default = next((key for key, outcome in possible.items() if outcome.default), None)
        if default is not None:
            return default
        self._draws += 1
        draw = random.Random(f"{self.seed} {self._draws}")
        return draw.choices(list(possible), [outcome.weight for outcome in possible.values()])[0]
