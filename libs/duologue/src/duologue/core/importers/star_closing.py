"""How the ways of a STAR task end: dead ends lead to "anything else?", and that to the goodbye or back."""

from __future__ import annotations

from dataclasses import replace

from duologue.core.importers.draft import Draft, Edge, declare_loops, only_looping
from duologue.core.importers.samples import FAREWELLS, NOTHING_MORE, SOMETHING_MORE, wordings
from duologue.core.importers.star_task import ANYTHING_ELSE, Task


def close(task: Task, draft: Draft) -> None:
    """Lead every node of a draft to an end, and leave out those that nothing leads to."""
    _answer_both_ways(task, draft)
    _lead_dead_ends_on(task, draft)
    if ANYTHING_ELSE in draft.nodes:
        _ask_for_more(task, draft)
    declare_loops(draft)
    _leave_loops(task, draft)
    _say_every_farewell(task, draft)
    reached = draft.reached(draft.start)
    draft.nodes = {label: draft.nodes[label] for label in reached}


def _answer_both_ways(task: Task, draft: Draft) -> None:
    """A question that is only answered yes, or only no, and nothing else: the other answer leads to the closing."""
    for label, node in draft.nodes.items():
        answers = {task.agrees(edge_id) for edge_id in node.edges}
        if node.kind == "say" and len(answers - {""}) == 1 and label != task.closing:
            other = "no" if "yes" in answers else "yes"
            if not any(edge.default for edge in node.edges.values()):
                node.lead(other, Edge(task.closing, wordings(other, other), default=True))


def _lead_dead_ends_on(task: Task, draft: Draft) -> None:
    for label, node in draft.nodes.items():
        if node.edges or node.kind == "end" or label == ANYTHING_ELSE:
            continue
        if node.kind == "call":
            node.lead("found", Edge(task.closing))
            continue
        for edge_id, edge in _answers_before(label, draft).items():
            node.lead(edge_id, replace(edge, examples=list(edge.examples)))
        if not node.edges:
            node.lead("answer" if task.asks(label) else "go_on", Edge(task.closing, default=True))


def _answers_before(label: str, draft: Draft) -> dict[str, Edge]:
    """The other answers to the question before, where that question is repeated until the client has what they need.

    (`no` to "Can I proceed or do you require more detailed instructions?" leads to the details of one step; then the
    client says `yes` or `done` as they would have before.)
    """
    before = [name for name, _, edge in draft.edges() if edge.to == label]
    if len(before) != 1 or draft.nodes[before[0]].kind != "say":
        return {}
    edges = draft.nodes[before[0]].edges
    if not any(edge.to == before[0] for edge in edges.values()):
        return {}
    return {edge_id: edge for edge_id, edge in edges.items() if edge.to != label}


def _ask_for_more(task: Task, draft: Draft) -> None:
    node = draft.nodes[ANYTHING_ELSE]
    leaving = next((edge for edge in node.edges.values() if draft.nodes[edge.to].kind == "end"), None)
    again = next((edge.to for edge in node.edges.values() if edge is not leaving), _first_request(task, draft))
    node.edges = {"no": Edge(leaving.to if leaving else task.farewell, list(NOTHING_MORE), default=True)}
    if again is not None:
        node.edges["yes"] = Edge(again, list(SOMETHING_MORE))


def _first_request(task: Task, draft: Draft) -> str | None:
    """Where a second request begins: behind the greeting and the client's name, which the agent knows by then."""
    way = [label for label in task.way_from(draft.start) if label in draft.nodes][1:]
    if way and task.topic(way[0]) == "name":
        way = way[1:]
    return way[0] if way and way[0] != ANYTHING_ELSE and draft.nodes[way[0]].kind == "say" else None


def _leave_loops(task: Task, draft: Draft) -> None:
    """A way out for nodes that only lead back; straight to the goodbye, since that leads nowhere back."""
    for label in only_looping(draft):
        node = draft.nodes[label]
        examples = list(NOTHING_MORE) if node.kind == "say" else []
        node.lead("no" if node.kind == "say" else "finished", Edge(task.farewell, examples))


def _say_every_farewell(task: Task, draft: Draft) -> None:
    """A goodbye that nothing leads to follows what another one follows."""
    reached = draft.reached(draft.start)
    before = next(
        (name for name, _, edge in draft.edges() if name in reached and draft.nodes[name].kind == "say"
         and draft.nodes[edge.to].kind == "end"),
        None,
    )  # fmt: skip
    for label in task.farewells:
        if label not in reached and before is not None:
            draft.nodes[before].lead(label, Edge(label, list(FAREWELLS)))
