"""A workflow: the directed graph that drives a dialogue, scores it and filters it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterator, Mapping
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Facts = dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Text]

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def fill(text: str, facts: Mapping[str, str]) -> str:
    """`text` with each `{name}` replaced by its fact; a name without a fact is left as it stands."""
    return PLACEHOLDER.sub(lambda match: facts.get(match[1], match[0]), text)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Reply(_Part):
    """A kind of client reply: an edge out of a `say` node, with example wordings."""

    to: Identifier
    examples: tuple[Text, ...] = ()
    default: bool = Field(False, description="Taken when no other reply of the node applies.")
    loop: bool = Field(False, description="Declares that this edge leads back on purpose.")


class Outcome(_Part):
    """What a call may answer: an edge out of a `call` node, with the facts that the agent learns."""

    to: Identifier
    returns: Facts = Field(default_factory=dict)
    weight: float = Field(1.0, gt=0, le=1000, description="Relative chance of being drawn in self-talk.")
    default: bool = Field(False, description="Taken wherever the intention pins none; without one it is drawn.")
    loop: bool = False


class SayNode(_Part):
    """What the agent says or asks, as reference text, and the replies that lead on from it."""

    say: Text
    replies: dict[Identifier, Reply]

    @property
    def text(self) -> str:
        return self.say

    @property
    def edges(self) -> Mapping[str, Reply | Outcome]:
        return self.replies


class CallNode(_Part):
    """A look-up or an action. The client sees neither it nor its outcome."""

    call: Identifier
    arguments: Facts = Field(default_factory=dict)
    outcomes: dict[Identifier, Outcome]

    @property
    def edges(self) -> Mapping[str, Reply | Outcome]:
        return self.outcomes


class EndNode(_Part):
    """A closing line. `outcome` says whether the client got what they came for."""

    end: Text
    outcome: Literal["success", "failure"] = "success"

    @property
    def text(self) -> str:
        return self.end

    @property
    def edges(self) -> Mapping[str, Reply | Outcome]:
        return {}


class AnytimeNode(_Part):
    """What the agent may say anywhere; the graph position stays where it was."""

    say: Text
    when: tuple[Text, ...] = Field(
        (), description="Client wordings that call for it; none: never chosen by the manager."
    )

    @property
    def text(self) -> str:
        return self.say


def _kind(value: Any) -> str | None:
    if isinstance(value, SayNode):
        return "say node"
    if isinstance(value, CallNode):
        return "call node"
    if isinstance(value, EndNode):
        return "end node"
    kinds = [kind for kind in ("say", "call", "end") if isinstance(value, dict) and kind in value]
    return f"{kinds[0]} node" if len(kinds) == 1 else None


Node = Annotated[
    Annotated[SayNode, Tag("say node")] | Annotated[CallNode, Tag("call node")] | Annotated[EndNode, Tag("end node")],
    Discriminator(
        _kind,
        custom_error_type="node_kind",
        custom_error_message="a node has exactly one of `say`, `call` and `end`",
    ),
]
SpokenNode = SayNode | EndNode
Edge = Reply | Outcome


class AgentRole(_Part):
    """Who the agent is in this workflow."""

    role: Text
    persona: Text = Field(description="First-person description.")


class Intention(_Part):
    """Why a client calls: a goal, and the facts that they can give when asked."""

    id: Identifier
    goal: Text = Field(description='Completes "your intention is to ..."')
    facts: Facts = Field(default_factory=dict)
    outcomes: dict[Identifier, Identifier] = Field(
        default_factory=dict, description="Outcome of each call node for this client, by node id; others are drawn."
    )


class Workflow(_Part):
    """A checked workflow: every node is reachable and leads to an end, and cycles go through declared loops.

    Build one with `core.workflow_file.load_workflow`, which checks the graph and names file and line of a mistake.
    """

    workflow: Identifier
    title: Text
    agent: AgentRole
    intentions: tuple[Intention, ...] = Field(min_length=1)
    start: Identifier
    nodes: dict[Identifier, Node] = Field(min_length=1, max_length=500)
    anytime: dict[Identifier, AnytimeNode] = Field(default_factory=dict, max_length=100)

    def __hash__(self) -> int:
        return hash(self.version)

    @property
    def id(self) -> str:
        return self.workflow

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the content; comments and layout don't count."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """Canonical JSON. `Workflow.model_validate_json` reads it back."""
        return json.dumps(self.model_dump(exclude_defaults=True), ensure_ascii=False, separators=(",", ":"))

    @cached_property
    def spoken(self) -> dict[str, SpokenNode]:
        """The nodes that the agent performs by speaking, in file order."""
        return {name: node for name, node in self.nodes.items() if not isinstance(node, CallNode)}

    def edges(self) -> Iterator[tuple[str, str, Edge]]:
        """Every edge as (source node, edge id, edge)."""
        for name, node in self.nodes.items():
            for edge_id, edge in node.edges.items():
                yield name, edge_id, edge

    @cached_property
    def entry(self) -> tuple[str, ...]:
        """The spoken nodes that a dialogue may open with."""
        return tuple(self._spoken_from(self.start))

    @cached_property
    def spoken_after(self) -> dict[str, tuple[str, ...]]:
        """For each spoken node, the spoken nodes that may come next; calls in between are passed through."""
        return {
            name: tuple(dict.fromkeys(spoken for edge in node.edges.values() for spoken in self._spoken_from(edge.to)))
            for name, node in self.spoken.items()
        }

    def _spoken_from(self, start: str) -> list[str]:
        found: list[str] = []
        seen: set[str] = set()
        pending = [start]
        while pending:
            name = pending.pop(0)
            if name in seen:
                continue
            seen.add(name)
            node = self.nodes[name]
            if isinstance(node, CallNode):
                pending.extend(outcome.to for outcome in node.outcomes.values())
            else:
                found.append(name)
        return found

    @cached_property
    def longest_path(self) -> int:
        """Most spoken nodes on any way from the start to an end that uses no declared loop; at least 1."""
        return self.depths()[self.start]

    @cached_property
    def shortest_path(self) -> int:
        """Fewest spoken nodes on any way from the start to an end; at least 1."""
        fewest: dict[str, int] = {}
        for name, ahead in self._backwards:
            fewest[name] = min((fewest[following] for following in ahead), default=0) + (name in self.spoken)
        return fewest[self.start]

    def depths(self, passed: Container[str] = ()) -> dict[str, int]:
        """For each node, the most spoken nodes that are not `passed` on any way from it to an end without loops.

        The node itself counts too.
        """
        most: dict[str, int] = {}
        for name, ahead in self._backwards:
            counts = name in self.spoken and name not in passed
            most[name] = max((most[following] for following in ahead), default=0) + counts
        return most

    @cached_property
    def _backwards(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Every node with the nodes that its edges lead to, loops left out; what lies ahead of a node comes first."""
        ahead = {
            name: tuple(edge.to for edge in node.edges.values() if not edge.loop) for name, node in self.nodes.items()
        }
        return tuple((name, ahead[name]) for name in TopologicalSorter(ahead).static_order())

    def intention(self, intention_id: str) -> Intention:
        for intention in self.intentions:
            if intention.id == intention_id:
                return intention
        raise KeyError(f'workflow "{self.id}" has no intention "{intention_id}"')
