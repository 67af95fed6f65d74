"""Importing STAR tasks: every graph, seen or not, becomes a workflow that loads, with its labels as ids."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.core.importers.star import import_star
from duologue.core.importers.star_task import Task
from duologue.core.problems import InvalidInput
from duologue.core.workflow import CallNode, EndNode, SayNode, Workflow, fill
from duologue.core.workflow_file import load_workflow

STAR = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "star"
TASKS = [
    "apartment_schedule",
    "apartment_search",
    "bank_fraud_report",
    "doctor_followup",
    "doctor_schedule",
    "hotel_search",
    "hotel_service_request",
    "party_plan",
    "plane_book",
    "restaurant_book",
    "restaurant_search",
    "ride_book",
    "ride_change",
    "spaceship_access_codes",
    "trip_directions",
    "weather",
]


@pytest.fixture(scope="module")
def tasks_json() -> str:
    path = STAR / "tasks.json"
    if not path.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"{path} is not here")
    return path.read_text()


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


# The real tasks


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_the_file_imports_with_its_labels_as_ids(tasks_json: str, name: str) -> None:
    task = json.loads(tasks_json)[name]
    workflow = load_workflow(import_star(tasks_json, "tasks.json", name))
    ids = {*workflow.nodes, *workflow.anytime, *signals(workflow)}
    assert set(task["replies"]) <= ids
    assert set(workflow.nodes) <= {*task["replies"], *task["graph"]}


@pytest.mark.parametrize("name", TASKS)
def test_the_ways_of_the_file_are_the_ways_of_the_workflow(tasks_json: str, name: str) -> None:
    task = json.loads(tasks_json)[name]
    workflow = load_workflow(import_star(tasks_json, "tasks.json", name))
    edges = {(source, edge.to) for source, _, edge in workflow.edges()}
    by_signal = {(edge_id, edge.to) for _, edge_id, edge in workflow.edges()}
    assert set(task["graph"].items()) <= edges | by_signal


@pytest.mark.parametrize("name", TASKS)
def test_every_line_of_the_agent_can_be_filled(tasks_json: str, name: str) -> None:
    workflow = load_workflow(import_star(tasks_json, "tasks.json", name))
    known = dict(workflow.intentions[0].facts)
    for node in workflow.nodes.values():
        if isinstance(node, CallNode):
            for outcome in node.outcomes.values():
                known.update(outcome.returns)
    texts = [node.text for node in (*workflow.spoken.values(), *workflow.anytime.values())]
    assert not [text for text in texts if "{" in fill(text, known) or "sample" in fill(text, known)]


@pytest.mark.parametrize(
    ("name", "node", "expected"),
    [
        ("apartment_schedule", "query_check", {"available", "unavailable"}),
        ("apartment_schedule", "apartment_inform_viewing_available", {"yes", "no"}),
        ("apartment_search", "apartment_ask_search_more", {"yes", "no"}),
        ("bank_fraud_report", "query", {"query_success", "query_failure"}),
        ("bank_fraud_report", "bank_ask_account_number", {"answer", "info_missing"}),
        ("bank_fraud_report", "bank_ask_pin", {"answer", "info_missing"}),
        ("bank_fraud_report", "ask_name", {"answer"}),
        ("bank_fraud_report", "bank_ask_dob", {"answer", "info_missing2"}),
        ("bank_fraud_report", "bank_ask_mothers_maiden_name", {"answer", "info_missing2"}),
        ("bank_fraud_report", "bank_ask_childhood_pets_name", {"answer", "info_missing2"}),
        ("party_plan", "query_check", {"available", "unavailable"}),
        ("party_plan", "query_book", {"query_success", "query_failure"}),
        ("plane_book", "query_check", {"available", "unavailable"}),
        ("plane_book", "query_book", {"query_success", "query_failure"}),
        ("plane_book", "plane_flight_available", {"yes", "no"}),
        ("ride_book", "query_check", {"query_success", "query_failure"}),
        ("ride_book", "ride_ask_confirm_booking", {"yes", "no"}),
        ("ride_book", "ride_inform_nothing_found", {"answer"}),
        ("spaceship_access_codes", "anything_else", {"yes", "no"}),
        ("trip_directions", "trip_inform_simple_step_ask_proceed", {"yes", "no", "done"}),
        ("trip_directions", "trip_inform_detailed_step", {"yes", "done"}),
    ],
)
def test_signals_belong_to_the_question_or_look_up_before_them(
    tasks_json: str, name: str, node: str, expected: set[str]
) -> None:
    workflow = load_workflow(import_star(tasks_json, "tasks.json", name))
    assert set(workflow.nodes[node].edges) == expected


def test_a_client_knows_what_they_are_asked_and_a_look_up_returns_the_rest(tasks_json: str) -> None:
    workflow = load_workflow(import_star(tasks_json, "tasks.json", "weather"))
    assert workflow.intentions[0].facts.keys() == {"day", "city"}
    call = workflow.nodes["query"]
    assert isinstance(call, CallNode)
    assert call.arguments == {"day": "{day}", "city": "{city}"}
    assert call.outcomes["found"].returns == {"weather": "sunny", "temperature": "18"}


# Graphs that nobody has drawn yet


def test_a_dead_end_leads_to_anything_else_and_that_to_the_goodbye_or_back() -> None:
    workflow = imported(
        {**HELLO, **CLOSING, "shop_ask_size": "What size?", "query": "Query", "shop_inform_done": "It is ordered."},
        {"hello": "ask_name", "ask_name": "shop_ask_size", "shop_ask_size": "query", "query": "shop_inform_done"},
    )
    assert ways(workflow, "shop_inform_done") == {"go_on": "anything_else"}
    assert ways(workflow, "anything_else") == {"no": "goodbye_1", "yes": "shop_ask_size"}
    assert workflow.nodes["anything_else"].edges["yes"].loop
    assert isinstance(workflow.nodes["goodbye_1"], EndNode)
    assert list(workflow.anytime) == ["out_of_scope"]


def test_two_questions_that_end_two_branches_share_their_yes_and_no() -> None:
    workflow = imported(
        {
            **HELLO,
            "shop_ask_question": "{question:s}",
            "query": "Query",
            "right": "Right",
            "wrong": "Wrong",
            "shop_inform_right_ask_next": "That's right! Do you want another one?",
            "shop_inform_wrong_ask_next": "No, it is {answer:s}. Do you want another one?",
            "yes": "Yes",
            "no": "No",
            "shop_bye": "Goodbye.",
        },
        {
            "hello": "shop_ask_question",
            "shop_ask_question": "query",
            "right": "shop_inform_right_ask_next",
            "wrong": "shop_inform_wrong_ask_next",
            "yes": "shop_ask_question",
            "no": "shop_bye",
        },
    )
    assert ways(workflow, "query") == {
        "right": "shop_inform_right_ask_next",
        "wrong": "shop_inform_wrong_ask_next",
    }
    for question in ("shop_inform_right_ask_next", "shop_inform_wrong_ask_next"):
        assert ways(workflow, question) == {"yes": "shop_ask_question", "no": "shop_bye"}
    call = workflow.nodes["query"]
    assert isinstance(call, CallNode)
    assert "answer" in call.outcomes["wrong"].returns
    assert "question" in workflow.intentions[0].facts  # asked before any look-up could have told it


def test_a_circle_of_questions_and_look_ups_gets_a_way_out() -> None:
    workflow = imported(
        {**HELLO, **CLOSING, "shop_ask_item": "Which item?", "query": "Query", "shop_inform_price": "{price:d} each."},
        {
            "hello": "shop_ask_item",
            "shop_ask_item": "query",
            "query": "shop_inform_price",
            "shop_inform_price": "shop_ask_item",
        },
    )
    assert ways(workflow, "shop_inform_price") == {"go_on": "shop_ask_item", "no": "goodbye_1"}
    assert workflow.nodes["shop_inform_price"].edges["go_on"].loop


def test_a_call_without_outcomes_is_found_and_closed() -> None:
    workflow = imported(
        {**HELLO, **CLOSING, "query_book": "Query Book"}, {"hello": "ask_name", "ask_name": "query_book"}
    )
    assert ways(workflow, "query_book") == {"found": "anything_else"}


def test_outcomes_with_unknown_names_go_to_calls_in_the_order_of_the_way() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "query_stock": "Query Stock",
            "query_pay": "Query Pay",
            "in_stock": "In stock",
            "sold_out": "Sold out",
            "shop_ask_confirm": "We have it. Shall I order it?",
            "shop_inform_sold_out": "It is sold out.",
            "yes": "Yes",
            "no": "No",
            "query_success": "Succeeded",
            "query_failure": "Failed",
            "shop_inform_ordered": "It is ordered.",
            "shop_inform_refused": "Your card was refused.",
        },
        {
            "hello": "ask_name",
            "ask_name": "query_stock",
            "in_stock": "shop_ask_confirm",
            "sold_out": "shop_inform_sold_out",
            "yes": "query_pay",
            "query_success": "shop_inform_ordered",
            "query_failure": "shop_inform_refused",
        },
    )
    assert ways(workflow, "query_stock") == {"in_stock": "shop_ask_confirm", "sold_out": "shop_inform_sold_out"}
    assert ways(workflow, "shop_ask_confirm") == {"yes": "query_pay", "no": "anything_else"}
    assert set(ways(workflow, "query_pay")) == {"query_success", "query_failure"}


def test_more_outcomes_than_open_calls_go_to_the_last_one() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "query": "Query",
            "available": "Available",
            "unavailable": "Unavailable",
            "query_failure": "Failed",
            "shop_inform_a": "It is there.",
            "shop_inform_b": "It is not there.",
            "shop_inform_c": "Something went wrong.",
        },
        {
            "hello": "query",
            "available": "shop_inform_a",
            "unavailable": "shop_inform_b",
            "query_failure": "shop_inform_c",
        },
    )
    assert set(ways(workflow, "query")) == {"available", "unavailable", "query_failure"}


def test_an_outcome_beside_a_call_with_its_own_way_on_is_another_outcome() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "query": "Query",
            "query_failure": "Failed",
            "shop_a": "Found it.",
            "shop_b": "I'm sorry.",
        },
        {"hello": "query", "query": "shop_a", "query_failure": "shop_b"},
    )
    assert ways(workflow, "query") == {"found": "shop_a", "query_failure": "shop_b"}


@pytest.mark.parametrize(
    ("label", "text", "agrees"),
    [
        ("yes", "Yes", "yes"),
        ("answer_no", "No", "no"),
        ("confirm_no", "", "no"),
        ("fine", "Yes, please", "yes"),
        ("decline", "Decline", "no"),
        ("no_rooms", "No rooms", ""),
        ("yesterday", "Yesterday", ""),
    ],
)
def test_a_yes_is_known_by_its_text_or_name(label: str, text: str, agrees: str) -> None:
    assert Task("shop", "shop", {label: text}, {}, frozenset()).agrees(label) == agrees


def test_signals_that_the_graph_leads_to_are_edges_and_bring_their_siblings() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "shop_ask_gift": "Is it a gift?",
            "yes": "Yes",
            "no": "No",
            "shop_ask_wrapping": "What wrapping?",
            "shop_inform_plain": "It comes in a plain box.",
        },
        {"hello": "shop_ask_gift", "shop_ask_gift": "yes", "yes": "shop_ask_wrapping", "no": "shop_inform_plain"},
    )
    assert ways(workflow, "shop_ask_gift") == {"yes": "shop_ask_wrapping", "no": "shop_inform_plain"}


def test_a_no_to_a_question_that_leads_on_goes_to_the_yes_or_no_question() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "shop_ask_member": "Are you a member of our club?",
            "shop_ask_size": "What size do you need?",
            "no": "No",
            "shop_inform_join": "You can join at the counter.",
        },
        {"hello": "shop_ask_member", "shop_ask_member": "shop_ask_size", "no": "shop_inform_join"},
    )
    assert ways(workflow, "shop_ask_member") == {"answer": "shop_ask_size", "no": "shop_inform_join"}


def test_answers_with_unknown_names_go_to_the_question_that_ends_the_way() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "shop_ask_gift": "Would you like it as a gift?",
            "shop_ask_colour": "Which colour do you want?",
            "blue": "Blue",
            "dark_red": "Dark red",
            "shop_ask_confirm": "Shall I order the blue one?",
            "shop_inform_red": "There is no red one left.",
            "yes": "Yes",
            "query": "Query",
            "query_success": "Succeeded",
            "shop_inform_ordered": "It is ordered.",
        },
        {
            "hello": "shop_ask_gift",
            "shop_ask_gift": "shop_ask_colour",
            "blue": "shop_ask_confirm",
            "dark_red": "shop_inform_red",
            "yes": "query",
            "query_success": "shop_inform_ordered",
        },
    )
    assert ways(workflow, "shop_ask_colour") == {"blue": "shop_ask_confirm", "dark_red": "shop_inform_red"}
    assert ways(workflow, "shop_ask_confirm") == {"yes": "query", "no": "anything_else"}
    assert ways(workflow, "shop_ask_gift") == {"answer": "shop_ask_colour"}
    assert ways(workflow, "query") == {"query_success": "shop_inform_ordered"}


def test_two_open_questions_get_the_answers_that_are_named_after_them() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "shop_ask_size": "Which size?",
            "shop_ask_colour": "Which colour?",
            "colour_blue": "Blue",
            "colour_red": "Red",
            "size_small": "Small",
            "size_large": "Large",
            "shop_inform_sold_out": "That is sold out.",
            "shop_inform_ordered": "It is ordered.",
        },
        {
            "hello": "shop_ask_size",
            "size_small": "shop_ask_colour",
            "size_large": "shop_inform_sold_out",
            "colour_blue": "shop_inform_ordered",
            "colour_red": "shop_inform_sold_out",
        },
    )
    assert set(ways(workflow, "shop_ask_size")) == {"size_small", "size_large"}
    assert set(ways(workflow, "shop_ask_colour")) == {"colour_blue", "colour_red"}


def test_numbered_answers_go_to_questions_in_the_order_of_their_numbers() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "shop_ask_gift": "Is it a gift?",
            "shop_ask_card": "Would you like a card with it?",
            "yes": "Yes",
            "no": "No",
            "yes2": "Yes",
            "no2": "No",
            "shop_inform_card": "There will be a card.",
            "shop_inform_plain": "It comes in a plain box.",
        },
        {
            "hello": "shop_ask_gift",
            "yes": "shop_ask_card",
            "no": "shop_inform_plain",
            "yes2": "shop_inform_card",
            "no2": "shop_inform_plain",
        },
    )
    assert ways(workflow, "shop_ask_gift") == {"yes": "shop_ask_card", "no": "shop_inform_plain"}
    assert ways(workflow, "shop_ask_card") == {"yes2": "shop_inform_card", "no2": "shop_inform_plain"}


def test_what_the_client_does_not_know_goes_to_the_questions_it_names() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "shop_ask_order_number": "What is your order number?",
            "shop_ask_postcode": "And your postcode?",
            "shop_ask_email": "Which address did you order with?",
            "query": "Query",
            "number_missing": "Number missing. Doesn't know the order number",
            "shop_inform_order": "It is on its way.",
        },
        {
            "hello": "shop_ask_order_number",
            "shop_ask_order_number": "shop_ask_postcode",
            "shop_ask_postcode": "query",
            "query": "shop_inform_order",
            "number_missing": "shop_ask_email",
            "shop_ask_email": "query",
        },
    )
    assert ways(workflow, "shop_ask_order_number")["number_missing"] == "shop_ask_email"
    assert "number_missing" not in ways(workflow, "shop_ask_postcode")


def test_a_way_that_nothing_leads_to_still_has_a_place() -> None:
    workflow = imported(
        {
            **HELLO,
            **CLOSING,
            "query": "Query",
            "shop_inform_found": "It is here.",
            "shop_inform_delayed": "It is delayed by the weather.",
            "shop_inform_sorry": "We are sorry.",
        },
        {"hello": "query", "query": "shop_inform_found", "shop_inform_delayed": "shop_inform_sorry"},
    )
    assert ways(workflow, "query") == {"found": "shop_inform_found", "delayed": "shop_inform_delayed"}


def test_replies_that_only_name_a_signal_or_a_look_up_are_never_said() -> None:
    workflow = imported(
        {**HELLO, **CLOSING, "no": "No", "query_other": "Query Other", "maybe": "Maybe"}, {"hello": "ask_name"}
    )
    assert {*workflow.nodes, *workflow.anytime} == {*HELLO, *CLOSING}


def test_a_task_without_goodbye_or_closing_question_gets_a_goodbye() -> None:
    workflow = imported(HELLO, {"hello": "ask_name"})
    assert ways(workflow, "ask_name") == {"answer": "goodbye"}


def test_a_second_goodbye_is_an_end_too() -> None:
    workflow = imported({**HELLO, **CLOSING, "goodbye_2": "Goodbye!"}, {"hello": "ask_name"})
    assert ways(workflow, "anything_else") == {"no": "goodbye_1", "goodbye_2": "goodbye_2"}


@pytest.mark.parametrize(
    ("template", "slot"),
    [("{price:d}", "price"), ("{price:.2f}", "price"), ("{Price!s:>10}", "price"), ("{price}", "price")],
)
def test_slots_lose_their_formats(template: str, slot: str) -> None:
    workflow = imported({**HELLO, "shop_inform": f"That is {template}."}, {"hello": "shop_inform"})
    assert workflow.spoken["shop_inform"].text == f"That is {{{slot}}}."
    assert slot in workflow.intentions[0].facts


# Whatever is drawn

_SPOKEN = [f"shop_{kind}_{thing}" for kind in ("ask", "inform") for thing in ("size", "price", "time", "stock", "gift")]
_TEXTS = ("What {}?", "Would you like {}?", "It is {{{}:d}}.", "Unfortunately there is no {}.", "OK, {} it is!")
_SIGNALS = {
    "yes": "Yes",
    "no": "No",
    "no2": "No",
    "available": "Available",
    "unavailable": "Unavailable",
    "query_success": "Succeeded",
    "query_failure": "Failed",
    "info_missing": "Info missing. Can't remember size or price",
    "info_missing2": "Info missing.",
    "done": "Done",
    "sold_out": "Sold out",
    "found": "Found",
}
_CALLS = {"query": "Query", "query_check": "Query Check", "query_book": "Query Book"}


@st.composite
def tasks(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    replies = {"hello": "Hello!", **_CALLS, **_SIGNALS}
    for label in _SPOKEN:
        replies[label] = draw(st.sampled_from(_TEXTS)).format(label.rsplit("_", maxsplit=1)[1])
    replies |= draw(st.sampled_from(({}, CLOSING, {"shop_bye": "Goodbye."}, {**CLOSING, "shop_bye": "Goodbye."})))
    labels = draw(st.lists(st.sampled_from(sorted(replies)), min_size=1, unique=True))
    graph = {"hello": draw(st.sampled_from(_SPOKEN))} if draw(st.booleans()) else {}
    graph |= {label: draw(st.sampled_from(sorted(replies))) for label in labels}
    kept = draw(st.lists(st.sampled_from(sorted(replies)), unique=True)) if draw(st.booleans()) else list(replies)
    needed = {*kept, "hello", *graph, *graph.values()}
    return {label: text for label, text in replies.items() if label in needed}, graph


@given(tasks())
@settings(max_examples=200, deadline=None)
def test_any_graph_imports_clean_with_every_spoken_label(task: tuple[dict[str, str], dict[str, str]]) -> None:
    replies, graph = task
    workflow = imported(replies, graph)
    spoken = [label for label in replies if label not in _SIGNALS and label not in _CALLS]
    assert set(spoken) <= {*workflow.nodes, *workflow.anytime}
    assert not {*workflow.nodes, *workflow.anytime} & set(_SIGNALS)
    edges = {(source, edge.to) for source, _, edge in workflow.edges()}
    direct = _between(graph, (*spoken, *_CALLS))
    assert {(source, target) for source, target in direct if source in workflow.nodes} <= edges
    assert all(isinstance(node, SayNode | CallNode | EndNode) for node in workflow.nodes.values())


def _between(graph: dict[str, str], labels: Iterable[str]) -> set[tuple[str, str]]:
    """The graph's edges among the labels."""
    known = set(labels)
    return {(source, target) for source, target in graph.items() if {source, target} <= known}


# What is wrong with a file


def broken(text: str, name: str = "shop") -> str:
    with pytest.raises(InvalidInput) as error:
        import_star(text, "my/tasks.json", name)
    return str(error.value)


def task_file(**parts: Any) -> str:
    return json.dumps({"shop": {"task": "shop", **parts}}, indent=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n "shop": {\n', "my/tasks.json:3: not valid JSON"),
        ("[1]", "my/tasks.json:1: expected an object of tasks by name"),
        ('{"shop": 1}', 'my/tasks.json:1: task "shop" has no "graph"'),
        ('{"shop": {}, "shop": {}}', 'my/tasks.json: not valid JSON: "shop" is defined twice'),
        ("[" * 100_000, "my/tasks.json: not valid JSON"),
        (task_file(replies={}, graph={}), 'my/tasks.json:4: task "shop" says nothing'),
        (task_file(replies={"hello": "Hi"}, graph=[]), 'my/tasks.json:2: task "shop" has no "graph"'),
        (
            task_file(replies={"hello": 1}, graph={}),
            'my/tasks.json:5: "hello" in "replies" of task "shop" is not a text',
        ),
        (task_file(replies={"he llo": "Hi"}, graph={}), 'my/tasks.json:5: label "he llo" can\'t be the id of a node'),
    ],
)
def test_a_broken_file_is_named_with_line_and_reason(text: str, said: str) -> None:
    assert broken(text).startswith(said)


def test_an_unknown_task_is_answered_with_the_closest() -> None:
    said = broken('{"shop_order": {}, "weather": {}}', "shop_orders")
    assert said == 'my/tasks.json: there is no task "shop_orders"\n    Did you mean "shop_order"?'


def test_a_label_without_a_text_is_answered_with_its_line_and_the_closest() -> None:
    text = task_file(replies={"hello": "Hi", "shop_ask_size": "What size?"}, graph={"hello": "shop_ask_sise"})
    said = 'my/tasks.json:9: "shop_ask_sise" has no text in "replies" of task "shop"\n    Did you mean "shop_ask_size"?'
    assert broken(text) == said


@pytest.mark.parametrize("name", ["", "_", "my task", "x" * 65])
def test_a_task_whose_name_is_no_id_is_refused(name: str) -> None:
    assert "can't be the id of a workflow" in broken(json.dumps({name: {"replies": {}, "graph": {}}}), name)


def test_a_task_of_too_many_labels_is_refused() -> None:
    replies = {f"shop_ask_{number}": "What?" for number in range(501)}
    assert "has more than 500 labels" in broken(task_file(replies=replies, graph={}))


def test_a_text_that_is_too_long_for_a_workflow_is_refused_by_name() -> None:
    assert "nodes.hello.say" in broken(task_file(replies={"hello": "Hi " * 1000}, graph={}))
