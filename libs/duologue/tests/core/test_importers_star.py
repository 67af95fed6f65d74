"""Importing STAR tasks: every graph, seen or not, becomes a workflow that loads, with its labels as ids."""

import json
from typing import Any

import pytest

from duologue.core.importers.star import import_star
from duologue.core.problems import InvalidInput
from duologue.core.workflow import CallNode, fill
from duologue.core.workflow_file import load_workflow
from tests.support.requirements import require_star
from tests.support.star_task import HELLO, imported, signals

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
    path = require_star() / "tasks.json"
    return path.read_text()


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


@pytest.mark.parametrize(
    ("template", "slot"),
    [("{price:d}", "price"), ("{price:.2f}", "price"), ("{Price!s:>10}", "price"), ("{price}", "price")],
)
def test_slots_lose_their_formats(template: str, slot: str) -> None:
    workflow = imported({**HELLO, "shop_inform": f"That is {template}."}, {"hello": "shop_inform"})
    assert workflow.spoken["shop_inform"].text == f"That is {{{slot}}}."
    assert slot in workflow.intentions[0].facts


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
