"""Importing Mermaid flowcharts: shapes, arrows and labels as people draw them, and what is said of the others."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.core.importers.mermaid import import_mermaid
from duologue.core.problems import InvalidInput
from duologue.core.workflow import CallNode, EndNode, SayNode, Workflow
from duologue.core.workflow_file import load_workflow


def imported(text: str, file: str = "charts/order_status.mmd") -> Workflow:
    return load_workflow(import_mermaid(text, file))


def shape(workflow: Workflow) -> dict[str, dict[str, str]]:
    """Where the edges of each node lead."""
    return {name: {edge_id: edge.to for edge_id, edge in node.edges.items()} for name, node in workflow.nodes.items()}


def test_a_flowchart_becomes_a_workflow() -> None:
    workflow = imported(
        """\
---
title: Order status
---
%% drawn by the support team
flowchart TD
    hello["Hello, what is your order number?"]
    hello -->|"It is A-12."| check{{Check the order}}
    hello -- I don't have it --> sorry(I can't help without it.)
    check -- found --> tell[It ships on {day}. Anything else?]
    check -- lost --> sorry
    tell -->|Yes| hello
    tell --> bye([Goodbye!])
"""
    )
    assert (workflow.id, workflow.title, workflow.start) == ("order_status", "Order status", "hello")
    assert shape(workflow) == {
        "hello": {"it_is_a_12": "check", "i_dont_have_it": "sorry"},
        "check": {"found": "tell", "lost": "sorry"},
        "tell": {"yes": "hello", "answer": "bye"},
        "sorry": {},
        "bye": {},
    }
    assert workflow.nodes["hello"].edges["it_is_a_12"].examples == ("It is A-12.",)
    assert workflow.nodes["tell"].edges["yes"].loop
    assert workflow.nodes["tell"].edges["answer"].default
    call = workflow.nodes["check"]
    assert isinstance(call, CallNode)
    assert call.call == "check_the_order"
    assert call.outcomes["found"].returns == {"day": "Tuesday"}
    assert not call.outcomes["lost"].returns


@pytest.mark.parametrize(
    ("box", "kind", "text"),
    [
        ("a[Say this]", SayNode, "Say this"),
        ("a(Say this)", SayNode, "Say this"),
        ("a([Say this])", SayNode, "Say this"),
        ("a((Say this))", SayNode, "Say this"),
        ("a(((Say this)))", SayNode, "Say this"),
        ("a>Say this]", SayNode, "Say this"),
        ("a[/Say this/]", SayNode, "Say this"),
        ("a[\\Say this\\]", SayNode, "Say this"),
        ("a[/Say this\\]", SayNode, "Say this"),
        ("a", SayNode, "a"),
        ('a["Say (this) [now]"]', SayNode, "Say (this) [now]"),
        ('a["`Say this`"]', SayNode, "Say this"),
        ("a[Say<br/>this]", SayNode, "Say this"),
        ("a[Say #quot;this#quot; #35;1]", SayNode, 'Say "this" #1'),
        ('a["Say\n   this"]', SayNode, "Say this"),
        ("a[Say this]:::loud", SayNode, "Say this"),
        ("a{Look it up}", CallNode, "look_it_up"),
        ("a{{Look it up}}", CallNode, "look_it_up"),
        ("a[[Look it up]]", CallNode, "look_it_up"),
        ("a[(Look it up)]", CallNode, "look_it_up"),
        ("a{?}", CallNode, "a"),
        ("a{Is it paid?}", CallNode, "is_it_paid"),
        ("a{Do you have your code?}", SayNode, "Do you have your code?"),
        ("a{{Do you know me?}}", CallNode, "do_you_know_me"),
    ],
)
def test_the_shape_of_a_box_tells_its_kind(box: str, kind: type, text: str) -> None:
    node = imported(f"flowchart TD\n  {box} --> b[Bye]").nodes["a"]
    assert isinstance(node, kind)
    assert (node.call if isinstance(node, CallNode) else node.text) == text


def test_the_arrows_from_a_question_to_the_client_are_replies() -> None:
    workflow = imported("flowchart TD\n a{Do you have your code?} -->|I do| b[Good]\n a -->|I lost it| c[A pity]")
    assert shape(workflow)["a"] == {"i_do": "b", "i_lost_it": "c"}
    assert workflow.nodes["a"].edges["i_lost_it"].examples == ("I lost it",)


@pytest.mark.parametrize("box", ["b[Bye]", "b(Bye)", "b([Bye])", "b((Bye))"])
def test_a_box_that_nothing_leads_on_from_is_an_end(box: str) -> None:
    assert isinstance(imported(f"graph LR\n a --> {box}").nodes["b"], EndNode)


@pytest.mark.parametrize(
    ("statements", "edges"),
    [
        ("a-->b", {("a", "b", "")}),
        ("a --- b", {("a", "b", "")}),
        ("a -.-> b", {("a", "b", "")}),
        ("a ==> b", {("a", "b", "")}),
        ("a ----> b", {("a", "b", "")}),
        ("a --x b", {("a", "b", "")}),
        ("a -->|yes please| b", {("a", "b", "yes please")}),
        ("a-->|yes please|b", {("a", "b", "yes please")}),
        ("a --> |yes please| b", {("a", "b", "yes please")}),
        ('a -->|"yes | please"| b', {("a", "b", "yes | please")}),
        ("a -- yes please --> b", {("a", "b", "yes please")}),
        ("a--yes please-->b", {("a", "b", "yes please")}),
        ("a -- ok --> b", {("a", "b", "ok")}),
        ("a --ok--> b", {("a", "b", "ok")}),
        ('a -- "yes --> please" --> b', {("a", "b", "yes --> please")}),
        ("a -. maybe .-> b", {("a", "b", "maybe")}),
        ("a == sure thing ==> b", {("a", "b", "sure thing")}),
        ("a -- so so --- b", {("a", "b", "so so")}),
        ("a --> b --> c", {("a", "b", ""), ("b", "c", "")}),
        ("a -->|1| b -- 2 --> c", {("a", "b", "1"), ("b", "c", "2")}),
        ("a --> b; b --> c", {("a", "b", ""), ("b", "c", "")}),
        ("a --> b %% the usual way", {("a", "b", "")}),
        ("a -->|x| b\n a -->|y| c\n b & c --> d", {("a", "b", "x"), ("a", "c", "y"), ("b", "d", ""), ("c", "d", "")}),
        ("a -->|x| b --> d & d", {("a", "b", "x"), ("b", "d", "")}),
        ("first-step --> v1.2", {("first-step", "v1.2", "")}),
    ],
)
def test_arrows_are_read_in_all_their_forms(statements: str, edges: set[tuple[str, str, str]]) -> None:
    workflow = imported(f"flowchart TD\n{statements}")
    assert {(source, edge.to, " ".join(edge.examples)) for source, _, edge in workflow.edges()} == edges


def test_layout_is_passed_over() -> None:
    workflow = imported(
        """\
%%{init: {"theme": "dark"}}%%
graph LR;
    subgraph greeting [How it begins]
        direction TB
        a[Hello] --> b[Bye]
    end
    %% how it looks
    classDef loud fill:#f96;
    class a loud
    style b fill:#bbf,stroke:#333
    linkStyle 0 stroke:red;
    click a "https://example.org"
"""
    )
    assert shape(workflow) == {"a": {"go_on": "b"}, "b": {}}


def test_a_chart_without_a_title_is_named_after_its_file() -> None:
    workflow = imported("flowchart TD\n a --> b", "charts/order-status.mmd")
    assert (workflow.id, workflow.title) == ("order_status", "Order status")


def test_labels_that_differ_in_signs_only_stay_two_replies() -> None:
    workflow = imported("flowchart TD\n a -->|Yes!| b\n a -->|yes?| c")
    assert shape(workflow)["a"] == {"yes": "b", "yes_2": "c"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "chart.mmd:1: expected a flowchart\n    Draw a flowchart: begin with `flowchart TD`"),
        ("sequenceDiagram\n a->>b: hi", 'chart.mmd:1: "sequenceDiagram" is not a flowchart'),
        ("%% hi\n\nstateDiagram-v2\n", 'chart.mmd:3: "stateDiagram-v2" is not a flowchart'),
        ("# Order status\n", "chart.mmd:1: expected a flowchart"),
        ("flowchart XY\n a --> b", 'chart.mmd:1: unknown direction "XY"'),
        ("flowchart TD\n", "chart.mmd: the flowchart has no boxes"),
        ("flowchart TD\n a --> b\n a -> c\n", "chart.mmd:3: can't read '-> c'"),
        ("flowchart TD\n a -->\n", "chart.mmd:2: expected a box at the end of the line"),
        ("flowchart TD\n a[Hello --> b", "chart.mmd:2: can't read '[Hello --> b'"),
        ('flowchart TD\n a["Hello] --> b\n', "chart.mmd:2: can't read"),
        ("flowchart TD\n a --> b{Paid?}", 'chart.mmd:2: no arrow leaves "b", which is a call by its shape'),
        ("flowchart TD\n a --> b\n a --> c", 'chart.mmd:3: two arrows from "a" have no label: to "b" and to "c"'),
        ("flowchart TD\n a -->|x| b & c", 'chart.mmd:2: two arrows from "a" are labelled "x": to "b" and to "c"'),
        ("flowchart TD\n a --> b\n c --> b", 'chart.mmd:3: "c" can\'t be reached from the first box, "a"'),
        ("flowchart TD\n a --> b\n b --> a", 'chart.mmd:2: every arrow from "b" leads back'),
        ("flowchart TD\n subgraph one\n a --> b\n end\n one --> c", 'chart.mmd:5: "one" is a subgraph, not a box'),
        (f"flowchart TD\n a --> b[{'long ' * 500}]", "chart.mmd: nodes.b.end"),
    ],
)
def test_what_cannot_be_imported_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as error:
        import_mermaid(text, "chart.mmd")
    assert str(error.value).startswith(said)


def test_a_chart_of_too_many_boxes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="more than 500 boxes"):
        import_mermaid("flowchart TD\n" + " --> ".join(f"n{number}" for number in range(501)), "chart.mmd")


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as error:
        import_mermaid("flowchart TD\n a -> b\n b --> c\n c ~ d", "chart.mmd")
    assert [problem.line for problem in error.value.problems] == [2, 4]


# Without "<": a label that is all <br> is none.
LABELS = st.text(st.characters(codec="utf-8", exclude_characters='"|#;{}`<', exclude_categories=("C", "Z")), min_size=1)


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8), LABELS),
        max_size=20,
        unique_by=lambda arrow: (arrow[0], arrow[2]),
    ),
    st.data(),
)
@settings(deadline=None)
def test_any_chart_that_leads_to_an_end_imports_with_every_box_and_label(
    arrows: list[tuple[int, int, str]], data: st.DataObject
) -> None:
    """A chain to the end, so that all is reached and leads on, and any labelled arrows beside it."""
    links = data.draw(st.sampled_from(('-->|"{}"|', '-- "{}" -->', '-. "{}" .->', '== "{}" ==>')))
    chain = " --> ".join(f"n{number}" for number in range(10))
    lines = [f"n{source} {links.format(label)} n{target}" for source, target, label in arrows]
    workflow = imported("\n".join(["flowchart LR", chain, *lines]))
    assert set(workflow.nodes) == {f"n{number}" for number in range(10)}
    assert {(source, edge.to) for source, _, edge in workflow.edges()} >= {
        (f"n{source}", f"n{target}") for source, target, _ in arrows
    }


@given(st.text())
@settings(deadline=None)
def test_no_text_is_answered_with_anything_but_a_workflow_or_its_problems(text: str) -> None:
    for chart in (text, f"flowchart TD\n a --> b{text}"):
        with suppress(InvalidInput):
            imported(chart)
