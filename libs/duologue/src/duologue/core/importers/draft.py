"""A workflow while it is being imported: a graph that may still be incomplete, and its YAML text in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from duologue.core.importers.samples import sample
from duologue.core.problems import InvalidInput, Problem
from duologue.core.workflow import PLACEHOLDER
from duologue.core.workflow_file import load_workflow


@dataclass
class Edge:
    to: str
    examples: list[str] = field(default_factory=list)
    default: bool = False
    loop: bool = False
    returns: dict[str, str] = field(default_factory=dict)


@dataclass
class Node:
    """`text` is what is said; of a call it is the call's name."""

    kind: Literal["say", "call", "end"]
    text: str
    edges: dict[str, Edge] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)

    def lead(self, edge_id: str, edge: Edge) -> None:
        """Add an edge; where one of that id leads elsewhere already, under the next free id."""
        free, number = edge_id, 2
        while free in self.edges and self.edges[free].to != edge.to:
            free, number = f"{edge_id}_{number}", number + 1
        self.edges.setdefault(free, edge)


@dataclass
class Anytime:
    say: str
    when: list[str] = field(default_factory=list)


@dataclass
class Draft:
    workflow: str
    title: str
    role: str
    persona: str
    goal: str
    start: str
    nodes: dict[str, Node] = field(default_factory=dict)
    anytime: dict[str, Anytime] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def edges(self) -> Iterator[tuple[str, str, Edge]]:
        for name, node in self.nodes.items():
            for edge_id, edge in node.edges.items():
                yield name, edge_id, edge

    def reached(self, start: str, use: Callable[[Node, Edge], bool] = lambda _node, _edge: True) -> list[str]:
        """Nodes that `start` leads to over the edges to use, itself first, nearest first."""
        found, seen = [start], {start}
        for name in found:
            node = self.nodes[name]
            for edge in node.edges.values():
                if use(node, edge) and edge.to not in seen:
                    seen.add(edge.to)
                    found.append(edge.to)
        return found


def declare_loops(draft: Draft) -> None:
    """Mark every edge that leads back on the way from the start."""
    done: set[str] = set()
    path = [draft.start]
    pending = [iter(draft.nodes[draft.start].edges.values())]
    while pending:
        for edge in pending[-1]:
            if edge.to in path:
                edge.loop = True
            elif edge.to not in done:
                path.append(edge.to)
                pending.append(iter(draft.nodes[edge.to].edges.values()))
                break
        else:
            done.add(path.pop())
            pending.pop()


def only_looping(draft: Draft) -> list[str]:
    """Nodes all of whose edges lead back. Where there is none and no dead end, every node leads to an end."""
    return [name for name, node in draft.nodes.items() if node.edges and all(edge.loop for edge in node.edges.values())]


def put_in_reading_order(draft: Draft) -> None:
    """Each node before those that it leads on to, and branches one after the other."""
    done: dict[str, None] = {}
    path = [draft.start]
    pending = [iter(reversed(draft.nodes[draft.start].edges.values()))]
    while pending:
        following = next((edge.to for edge in pending[-1] if not edge.loop and edge.to not in done), None)
        if following is None:
            done[path.pop()] = None
            pending.pop()
        else:
            path.append(following)
            pending.append(iter(reversed(draft.nodes[following].edges.values())))
    draft.nodes = {name: draft.nodes[name] for name in reversed(done)}


def fill_slots(draft: Draft, takes_digits: frozenset[str] = frozenset()) -> None:
    """Let something fill every placeholder: the last look-ups before it, or the client where none comes before."""
    for name, node in draft.nodes.items():
        for slot in _slots(node):
            if slot not in draft.facts:
                _provide(draft, name, slot, sample(slot, digits=slot in takes_digits))
    for anytime in draft.anytime.values():
        for slot in PLACEHOLDER.findall(anytime.say):
            _provide_anywhere(draft, slot, sample(slot, digits=slot in takes_digits))


def _slots(node: Node) -> list[str]:
    texts = [node.text, *(example for edge in node.edges.values() for example in edge.examples)]
    return [slot for text in texts for slot in PLACEHOLDER.findall(text)]


def _provide(draft: Draft, name: str, slot: str, value: str) -> None:
    without = draft.reached(draft.start, lambda _, edge: slot not in edge.returns)
    if name not in without:
        return
    if name in draft.reached(draft.start, lambda node, _: node.kind != "call"):
        draft.facts[slot] = value
        return
    for source in without:
        for outcome in draft.nodes[source].edges.values() if draft.nodes[source].kind == "call" else ():
            if name in draft.reached(outcome.to, lambda node, _: node.kind != "call"):
                outcome.returns[slot] = value


def _provide_anywhere(draft: Draft, slot: str, value: str) -> None:
    outcomes = [edge for name, _, edge in draft.edges() if draft.nodes[name].kind == "call"]
    if slot in draft.facts or any(slot in outcome.returns for outcome in outcomes):
        return
    telling = [outcome for outcome in outcomes if outcome.returns] or outcomes
    for outcome in telling:
        outcome.returns[slot] = value
    if not telling:
        draft.facts[slot] = value


def to_yaml(draft: Draft, file: str) -> str:
    """The draft as a workflow file that loads; raises `InvalidInput` for `file` where a limit stands against it."""
    text = "\n".join(
        yaml.dump(part, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120) for part in _parts(draft)
    )
    try:
        load_workflow(text)
    except InvalidInput as error:  # lines of a text that nobody has seen would only mislead
        raise InvalidInput(Problem(file, 0, problem.message, problem.fix) for problem in error.problems) from None
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _parts(draft: Draft) -> Iterator[dict[str, Any]]:
    yield {"workflow": draft.workflow, "title": draft.title}
    yield {"agent": {"role": draft.role, "persona": draft.persona}}
    yield {"intentions": [{"id": draft.workflow, "goal": draft.goal, **_given(facts=draft.facts)}]}
    yield {"start": draft.start}
    yield {"nodes": {name: _node(node) for name, node in draft.nodes.items()}}
    if draft.anytime:
        yield {"anytime": {name: {"say": node.say, **_given(when=node.when)} for name, node in draft.anytime.items()}}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _node(node: Node) -> dict[str, Any]:
    if node.kind == "end":
        return {"end": node.text}
    edges = {
        edge_id: {
            "to": edge.to,
            **_given(examples=edge.examples, returns=edge.returns, default=edge.default, loop=edge.loop),
        }
        for edge_id, edge in node.edges.items()
    }
    if node.kind == "call":
        return {"call": node.text, **_given(arguments=node.arguments), "outcomes": edges}
    return {"say": node.text, "replies": edges}
