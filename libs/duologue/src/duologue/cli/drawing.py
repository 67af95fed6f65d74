"""A workflow as a mermaid flowchart."""

from __future__ import annotations

import textwrap

from duologue.core.workflow import CallNode, EndNode, SayNode, Workflow

_WIDTH = 32


def draw_mermaid(workflow: Workflow) -> str:
    """The flowchart, in the shapes that `workflow import --from mermaid` reads."""
    ids = {name: f"n{index}" for index, name in enumerate(workflow.nodes)}
    lines = ["flowchart TD"]
    for name, node in workflow.nodes.items():
        lines.append(f"    {ids[name]}{_shape(name, node)}")
    for name, edge_id, edge in workflow.edges():
        arrow = "-.->" if edge.loop else "-->"
        lines.append(f'    {ids[name]} {arrow}|"{edge_id}"| {ids[edge.to]}')
    return "\n".join(lines) + "\n"


def _shape(name: str, node: SayNode | CallNode | EndNode) -> str:
    if isinstance(node, CallNode):
        return f'{{{{"{_text(name, node.call)}"}}}}'
    if isinstance(node, EndNode):
        return f'(["{_text(name, node.end)}"])'
    return f'["{_text(name, node.say)}"]'


def _text(name: str, text: str) -> str:
    wrapped = textwrap.wrap(text.replace('"', "#quot;"), _WIDTH)
    return "<br>".join([f"<b>{name}</b>", *wrapped])
