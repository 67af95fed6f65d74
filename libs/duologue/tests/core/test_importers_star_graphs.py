"""Tasks of graphs that the STAR data set does not have: where calls, signals and endings go."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.core.importers.star_task import Task
from duologue.core.workflow import CallNode, EndNode, SayNode
from tests.support.star_task import CLOSING, HELLO, imported, ways


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
