"""The workflow graph: what its properties count, held against brute force on random graphs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from duologue.core.problems import InvalidInput
from duologue.core.workflow import CallNode, Workflow, fill
from duologue.core.workflow_file import load_workflow

Graph = dict[str, Any]

# Reading YAML takes most of the time; graphs are small, so that few of them show what there is to see.
some = settings(max_examples=25)


def text_of(nodes: dict[str, Any], start: str = "n0", **fields: Any) -> str:
    workflow = {
        "workflow": "test",
        "title": "A test",
        "agent": {"role": "a clerk", "persona": "I am calm."},
        "intentions": [{"id": "any", "goal": "ask something"}],
        "start": start,
        "nodes": nodes,
        **fields,
    }
    return yaml.safe_dump(workflow, sort_keys=False, allow_unicode=True)


def loaded(nodes: dict[str, Any], **fields: Any) -> Workflow:
    return load_workflow(text_of(nodes, **fields))


# Random graphs


@st.composite
def graphs(draw: st.DrawFn, loops: bool = True) -> Graph:
    """Nodes of a workflow in which everything can be reached and leads to an end, with or without declared loops."""
    size = draw(st.integers(1, 9))
    kinds = [draw(st.sampled_from(("say", "call"))) for _ in range(size)]
    ways = [draw(st.sets(st.integers(index + 1, size), min_size=1, max_size=3)) for index in range(size)]
    reached = {0}
    for index in range(size):
        if index in reached:
            reached |= ways[index]
    edges = {index: [(target, False) for target in sorted(ways[index])] for index in range(size) if index in reached}
    if loops:
        above = {index: {index} for index in edges}  # from where each node can be reached
        for index, targets in edges.items():
            for target, _ in targets:
                if target in above:
                    above[target] |= above[index]
        for index, targets in edges.items():
            targets += [(target, True) for target in draw(st.sets(st.sampled_from(sorted(above[index])), max_size=2))]
    nodes: Graph = {f"n{index}": _node(index, kinds[index], targets) for index, targets in edges.items()}
    nodes[f"n{size}"] = {"end": "Goodbye."}
    order = draw(st.permutations(list(nodes)))
    return {name: nodes[name] for name in order}


def _node(index: int, kind: str, edges: list[tuple[int, bool]]) -> dict[str, Any]:
    key = {"say": "replies", "call": "outcomes"}[kind]
    ways: dict[str, dict[str, Any]] = {}
    for number, (target, loop) in enumerate(edges):
        ways[f"e{number}"] = {"to": f"n{target}", "loop": loop}
        if kind == "say":
            ways[f"e{number}"]["examples"] = [f"words {number}"]
    return {kind: f"call_{index}" if kind == "call" else f"Question {index}?", key: ways}


def ways_of(graph: Graph, name: str) -> list[tuple[str, bool]]:
    """Where the edges of a node lead, and whether they are declared loops."""
    edges = {**graph[name].get("replies", {}), **graph[name].get("outcomes", {})}
    return [(edge["to"], edge["loop"]) for edge in edges.values()]


def paths(graph: Graph, name: str) -> list[list[str]]:
    """Every way from a node to an end without loops, written out."""
    ahead = [target for target, loop in ways_of(graph, name) if not loop]
    return [[name, *path] for target in ahead for path in paths(graph, target)] or [[name]]


def spoken_in(graph: Graph, path: list[str]) -> int:
    return sum("call" not in graph[name] for name in path)


def spoken_next(graph: Graph) -> dict[str, set[str]]:
    """For each node the spoken nodes among itself and what calls lead on to, as a least fixed point."""
    first = {name: set() if "call" in node else {name} for name, node in graph.items()}
    while True:
        grown = {
            name: {spoken for to, _ in ways_of(graph, name) for spoken in first[to]} if "call" in node else {name}
            for name, node in graph.items()
        }
        if grown == first:
            return first
        first = grown


@some
@given(graphs())
def test_every_sound_graph_loads_with_its_nodes_and_edges_in_order(graph: Graph) -> None:
    workflow = loaded(graph)
    assert list(workflow.nodes) == list(graph)
    edges = [(name, to, loop) for name in graph for to, loop in ways_of(graph, name)]
    assert [(source, edge.to, edge.loop) for source, _, edge in workflow.edges()] == edges


@some
@given(graphs())
def test_depth_is_that_of_the_longest_way_written_out(graph: Graph) -> None:
    workflow = loaded(graph)
    assert workflow.longest_path == max(spoken_in(graph, path) for path in paths(graph, "n0"))
    assert workflow.longest_path >= 1
    expected = {name: max(spoken_in(graph, path) for path in paths(graph, name)) for name in graph}
    assert workflow.depths() == expected


@some
@given(graphs())
def test_the_shortest_path_is_that_of_the_shortest_way_written_out(graph: Graph) -> None:
    assert loaded(graph).shortest_path == min(spoken_in(graph, path) for path in paths(graph, "n0"))


@some
@given(graphs(), st.data())
def test_what_was_passed_does_not_lie_ahead(graph: Graph, data: st.DataObject) -> None:
    passed = set(data.draw(st.lists(st.sampled_from(list(graph)))))
    expected = {
        name: max(spoken_in(graph, [step for step in path if step not in passed]) for path in paths(graph, name))
        for name in graph
    }
    assert loaded(graph).depths(passed) == expected


@some
@given(graphs())
def test_the_spoken_nodes_that_may_come_next_are_those_that_edges_and_calls_lead_to(graph: Graph) -> None:
    workflow = loaded(graph)
    first = spoken_next(graph)
    assert set(workflow.entry) == first["n0"]
    assert set(workflow.spoken_after) == {name for name in graph if "call" not in graph[name]}
    for name, ahead in workflow.spoken_after.items():
        assert len(ahead) == len(set(ahead))
        assert set(ahead) == {spoken for target, _ in ways_of(graph, name) for spoken in first[target]}


@some
@given(graphs())
def test_a_workflow_comes_back_from_its_json_as_it_was(graph: Graph) -> None:
    workflow = loaded(graph)
    again = Workflow.model_validate_json(workflow.to_json())
    assert again == workflow
    assert again.version == workflow.version
    assert again.to_json() == workflow.to_json()
    assert hash(again) == hash(workflow)
    assert list(again.nodes) == list(workflow.nodes)


@some
@given(graphs(), st.data())
def test_an_edge_to_nowhere_is_named_with_its_line(graph: Graph, data: st.DataObject) -> None:
    edges = [edge for node in graph.values() for edge in (node.get("replies") or node.get("outcomes") or {}).values()]
    data.draw(st.sampled_from(edges))["to"] = "nowhere"
    text = text_of(graph)
    with pytest.raises(InvalidInput) as caught:
        load_workflow(text, "test.yaml")
    (problem,) = caught.value.problems
    assert "to: nowhere" in text.splitlines()[problem.line - 1]
    assert 'leads to "nowhere", which is not a node' in problem.message


@some
@given(graphs(loops=False), st.data())
def test_a_loop_is_refused_until_it_is_declared(graph: Graph, data: st.DataObject) -> None:
    inner = [name for name in graph if "end" not in graph[name]]
    source = data.draw(st.sampled_from(inner))
    above = [name for name in inner if any(source in path for path in paths(graph, name))]
    back = {"to": data.draw(st.sampled_from(above)), "loop": False}
    key = "outcomes" if "call" in graph[source] else "replies"
    graph[source][key]["back"] = {**back, "examples": ["Back."]} if key == "replies" else back
    with pytest.raises(InvalidInput) as caught:
        loaded(graph)
    assert any("closes an undeclared loop" in problem.message for problem in caught.value.problems)
    graph[source][key]["back"]["loop"] = True
    loaded(graph)


@some
@given(graphs(loops=False), st.data())
def test_a_loop_that_does_not_lead_back_is_refused(graph: Graph, data: st.DataObject) -> None:
    inner = [name for name in graph if "end" not in graph[name]]
    source = data.draw(st.sampled_from(inner))
    key = "outcomes" if "call" in graph[source] else "replies"
    ways = graph[source][key]
    assume(len(ways) > 1)
    edge_id = data.draw(st.sampled_from(sorted(ways)))
    ways[edge_id]["loop"] = True
    with pytest.raises(InvalidInput) as caught:
        loaded(graph)
    assert f'edge "{edge_id}" of node "{source}" is declared as a loop' in str(caught.value)


# Versions


@some
@given(graphs(), st.data())
def test_comments_and_layout_do_not_change_the_version(graph: Graph, data: st.DataObject) -> None:
    text = text_of(graph)
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(lines)))
        lines.insert(place, data.draw(st.sampled_from(("# a comment", "", "   # indented", "# {fact}"))))
    version = load_workflow(text).version
    assert load_workflow("\n".join(lines) + "  # last").version == version
    flow = yaml.safe_dump(yaml.safe_load(text), sort_keys=False, default_flow_style=True, width=60)
    assert load_workflow(flow).version == version


SMALL: Graph = {
    "ask": {"say": "Which day?", "replies": {"day": {"to": "look", "examples": ["On Monday.", "Friday."]}}},
    "look": {"call": "calendar", "arguments": {"day": "{day}"}, "outcomes": {"free": {"to": "bye", "weight": 2}}},
    "bye": {"end": "See you then."},
}
FIELDS = {
    "start": "ask",
    "intentions": [{"id": "visit", "goal": "see the doctor", "facts": {"day": "Monday"}}],
    "anytime": {"wait": {"say": "One moment."}},
}
CHANGES = [
    ("Which day?", "What day?"),
    ("On Monday.", "On Sunday."),
    ("weight: 2", "weight: 3"),
    ("end: See you then.", "end: See you then.\n    outcome: failure"),
    ("title: A test", "title: Another test"),
    ("workflow: test", "workflow: test2"),
    ("persona: I am calm.", "persona: I am not."),
    ("goal: see the doctor", "goal: see a doctor"),
    ("day: Monday", "day: Tuesday"),
    ("say: One moment.", "say: A moment."),
    ("- Friday.", "- Friday.\n        default: true"),
    ("  free:", "  freed:"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_content_changes_the_version(old: str, new: str) -> None:
    text = text_of(SMALL, **FIELDS)
    changed = text.replace(old, new, 1)
    assert changed != text
    assert load_workflow(changed).version != load_workflow(text).version


def test_a_version_is_twelve_hexadecimal_digits_and_stays_what_it_is() -> None:
    # Versions are kept in databases and file names: a change of this figure is a migration.
    workflow = loaded(SMALL, **FIELDS)
    assert workflow.version == "70af0b0b115c"
    assert json.loads(workflow.to_json())["workflow"] == workflow.id


# Small things


def test_calls_are_passed_through_and_are_not_spoken() -> None:
    workflow = loaded(SMALL, **FIELDS)
    assert isinstance(workflow.nodes["look"], CallNode)
    assert list(workflow.spoken) == ["ask", "bye"]
    assert workflow.spoken_after == {"ask": ("bye",), "bye": ()}
    assert (workflow.entry, workflow.longest_path) == (("ask",), 2)


def test_a_workflow_of_as_many_nodes_as_are_allowed_can_be_worked_with() -> None:
    nodes = {f"n{i}": {"say": "Go on?", "replies": {"yes": {"to": f"n{i + 1}", "default": True}}} for i in range(499)}
    workflow = loaded({**nodes, "n499": {"end": "Bye."}})
    assert workflow.longest_path == 500


def test_an_intention_is_found_by_its_id() -> None:
    workflow = loaded(SMALL, **FIELDS)
    assert workflow.intention("visit").goal == "see the doctor"
    with pytest.raises(KeyError, match="no intention"):
        workflow.intention("visits")


@given(st.text(), st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_]{0,5}\Z"), st.text()))
def test_filling_replaces_what_is_known_and_leaves_the_rest(text: str, facts: dict[str, str]) -> None:
    names = list(facts)
    template = text.join("{" + name + "}" for name in names)
    assume("{" not in text and "}" not in text)
    assert fill(template, facts) == text.join(facts[name] for name in names)
    assert fill(template, {}) == template


@some
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"]), min_size=1).filter(str.strip))
def test_any_words_come_through_yaml_and_json(words: str) -> None:
    nodes = {"n0": {"say": words, "replies": {"any": {"to": "n1", "default": True}}}, "n1": {"end": "Bye."}}
    assume("{" not in words)
    workflow = loaded(nodes)
    assert workflow.spoken["n0"].text == words.strip()
    assert Workflow.model_validate_json(workflow.to_json()) == workflow
