"""Where a dialogue stands: spoken nodes, the calls on the way, and the facts that they return."""

from __future__ import annotations

from collections import Counter

from duologue.core.dialogue import Role, ToolCall
from duologue.core.workflow_file import load_workflow
from duologue_roleplay.graph import GraphPosition
from tests.support.desk import DESK

LATE, LOST = DESK.intentions


def at_greet(intention_id: str = "late", seed: int = 0) -> GraphPosition:
    position = GraphPosition(DESK, DESK.intention(intention_id), seed)
    assert position.enter() == []
    return position


def test_a_dialogue_begins_at_the_start_with_the_facts_of_the_intention() -> None:
    position = at_greet()
    assert position.name == "greet"
    assert position.reference == "Hello, this is the parcel desk. What is your tracking code?"
    assert position.facts == {"code": "PK-4471"}


def test_a_call_on_the_way_is_performed_and_its_facts_are_known_from_then_on() -> None:
    position = at_greet()
    (turn,) = position.follow("gives_code")
    assert (turn.role, turn.node, turn.text) == (Role.TOOL, "look_up", "look_up: found")
    assert turn.call == ToolCall("look_up", {"code": "PK-4471"}, "found", {"place": "the depot at North Gate"})
    assert position.name == "tell"
    assert position.reference == "Your parcel PK-4471 lies at the depot at North Gate. Is there another parcel?"


def test_calls_that_follow_each_other_are_all_performed_in_order() -> None:
    position = at_greet("lost")
    turns = position.follow("gives_code")
    assert [(turn.node, turn.call.outcome if turn.call else "") for turn in turns] == [
        ("look_up", "missing"),
        ("search", "nowhere"),
    ]
    assert turns[1].call is not None
    assert turns[1].call.arguments == {"what": "a parcel with code PK-9"}
    assert position.name == "ask_sender"


def test_an_edge_between_spoken_nodes_needs_no_call() -> None:
    position = at_greet()
    assert position.follow("no_code") == []
    assert position.name == "bye_no_code"


def test_a_pinned_outcome_holds_for_the_first_time_only() -> None:
    later = Counter()
    for seed in range(200):
        position = at_greet("lost", seed)
        assert [turn.call.outcome for turn in position.follow("gives_code") if turn.call] == ["missing", "nowhere"]
        position.enter()
        turns = position.follow("gives_code")
        later[turns[0].call.outcome if turns[0].call else ""] += 1
    assert 120 < later["found"] < 180  # weights 3 to 1
    assert later["missing"] == 200 - later["found"]


def test_a_default_outcome_is_taken_wherever_none_is_pinned() -> None:
    workflow = load_workflow("""\
workflow: door
title: Open a door
agent: {role: a porter, persona: I am calm.}
intentions:
  - {id: guest, goal: get in}
  - {id: stranger, goal: get in, outcomes: {try_key: stuck}}
start: hello
nodes:
  hello: {say: "Shall I open?", replies: {"yes": {to: try_key, default: true}}}
  try_key:
    call: keys.try
    outcomes:
      opens: {to: bye, default: true}
      stuck: {to: again, weight: 1000}
  again:
    say: Once more?
    replies: {"yes": {to: try_key, loop: true, examples: [Yes.]}, "no": {to: bye, default: true}}
  bye: {end: Come in.}
""")
    for seed in range(20):
        guest = GraphPosition(workflow, workflow.intention("guest"), seed)
        guest.enter()
        guest.follow("yes")
        assert guest.name == "bye"
        stranger = GraphPosition(workflow, workflow.intention("stranger"), seed)
        stranger.enter()
        stranger.follow("yes")
        assert stranger.name == "again"
        stranger.follow("yes")
        assert stranger.name == "bye"


def test_a_loop_comes_back_to_the_node_with_the_facts_kept() -> None:
    position = at_greet()
    position.follow("gives_code")
    assert position.follow("another") == []
    assert position.name == "greet"
    assert position.facts["place"] == "the depot at North Gate"


def test_a_returned_fact_may_name_other_facts() -> None:
    intention = DESK.intentions[1].model_copy(update={"outcomes": {"look_up": "missing", "search": "seen"}})
    position = GraphPosition(DESK, intention, 0)
    position.enter()
    position.follow("gives_code")
    assert position.facts["place"] == "a shelf beside PK-9"


def test_the_same_draws_lead_the_same_way() -> None:
    free = LATE.model_copy(update={"outcomes": {}})

    def way(seed: int) -> list[str]:
        position = GraphPosition(DESK, free, seed)
        taken = []
        for _ in range(5):
            position.enter()
            taken += [turn.text for turn in position.follow("gives_code")]
        return taken

    assert way(4) == way(4)
    assert {tuple(way(seed)) for seed in range(10)} != {tuple(way(4))}


def test_a_walk_does_not_change_the_intention_that_it_began_with() -> None:
    position = at_greet()
    position.follow("gives_code")
    assert dict(LATE.facts) == {"code": "PK-4471"}
    assert position.facts is not LATE.facts


def test_a_workflow_may_begin_with_a_call() -> None:
    workflow = load_workflow(
        """\
workflow: hotline
title: Hours
agent: {role: a voice, persona: I tell the time.}
intentions: [{id: ask, goal: know the hours}]
start: clock
nodes:
  clock:
    call: clock
    outcomes:
      day: {to: bye, returns: {hours: nine to five}}
  bye: {end: "We are open from {hours}, goodbye."}
"""
    )
    position = GraphPosition(workflow, workflow.intentions[0], 0)
    assert [turn.text for turn in position.enter()] == ["clock: day"]
    assert position.reference == "We are open from nine to five, goodbye."
