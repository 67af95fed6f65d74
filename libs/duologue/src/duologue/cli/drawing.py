"""A workflow as a mermaid flowchart."""

from __future__ import annotations

import re
import textwrap

from duologue.core.workflow import CallNode, EndNode, SayNode, Workflow

_WIDTH = 32
# What mermaid takes as a box's id; words of its own it does not.
_PLAIN = re.compile(r"[A-Za-z0-9_]+")
_OWN_WORDS = {"end", "graph", "flowchart", "subgraph", "direction", "style", "linkstyle", "class", "classdef", "click"}
# The first mark of each of its entities is one that texts may hold too, so it comes first.
_ENTITIES = {"#": "#35;", '"': "#quot;", "<": "#lt;", "&": "#amp;", "`": "#96;"}


def draw_mermaid(workflow: Workflow) -> str:
    """The flowchart, in the shapes that `workflow import --from mermaid` reads."""
    ids = {name: _box_id(name, index, workflow) for index, name in enumerate(workflow.nodes)}
    lines = ["flowchart TD"]
    for name in _from_start(workflow):
        lines.append(f"    {ids[name]}{_shape(workflow.nodes[name])}")
    for name, edge_id, edge in workflow.edges():
        arrow = "-.->" if edge.loop else "-->"
        lines.append(f'    {ids[name]} {arrow}|"{edge_id}"| {ids[edge.to]}')
    return "\n".join(lines) + "\n"


def _from_start(workflow: Workflow) -> list[str]:
    """The start first: where every box is led to, the first one counts as it."""
    return sorted(workflow.nodes, key=lambda name: name != workflow.start)


def _box_id(name: str, index: int, workflow: Workflow) -> str:
    """The node's id, where mermaid takes it; else one that no node has."""
    if _PLAIN.fullmatch(name) and name.lower() not in _OWN_WORDS:
        return name
    box = f"n{index}"
    while box in workflow.nodes:
        box += "_"
    return box


def _shape(node: SayNode | CallNode | EndNode) -> str:
    if isinstance(node, CallNode):
        return f'{{{{"{_text(node.call)}"}}}}'
    if isinstance(node, EndNode):
        return f'(["{_text(node.end)}"])'
    return f'["{_text(node.say)}"]'


def _text(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    for mark, entity in _ENTITIES.items():
        lines = [line.replace(mark, entity) for line in lines]
    return "<br>".join(lines)
