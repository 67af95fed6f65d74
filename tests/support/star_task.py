"""A small task in the form of the STAR data set, for tests of its import."""

from __future__ import annotations

import json

from duologue.core.importers.star import import_star
from duologue.core.workflow import Workflow
from duologue.core.workflow_file import load_workflow


def imported(replies: dict[str, str], graph: dict[str, str], name: str = "shop_order") -> Workflow:
    text = json.dumps({name: {"task": name, "replies": replies, "graph": graph}}, indent=1)
    made = import_star(text, "tasks.json", name)
    assert made == import_star(text, "tasks.json", name), "the same file must give the same text"
    return load_workflow(made)


def ways(workflow: Workflow, label: str) -> dict[str, str]:
    """Where each edge of a node leads."""
    return {edge_id: edge.to for edge_id, edge in workflow.nodes[label].edges.items()}


def signals(workflow: Workflow) -> set[str]:
    return {edge_id for _, edge_id, _ in workflow.edges()}


HELLO = {"hello": "Hello, how can I help?", "ask_name": "May I have your name, please?"}
CLOSING = {
    "anything_else": "Is there anything else that I can do for you?",
    "goodbye_1": "Thank you and goodbye.",
    "out_of_scope": "I don't quite understand. I am only able to help you order shoes.",
}
