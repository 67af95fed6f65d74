"""Self-talk against an imitated model server: which way a dialogue goes, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duologue.core.dialogue import Dialogue, EndReason, Role
from duologue.core.usage import Account, Part
from duologue.core.workflow_file import load_workflow
from tests.support.desk import DESK_YAML
from tests.support.desk_models import deciding, is_agent, obedient, plan, play
from tests.support.model_server import CHAT, ModelRequest, Said, ScriptedModelServer

GREETING = "Hello, this is the parcel desk. What is your tracking code?"
# Nothing to say in passing: a stray reply is answered, and the question asked again.
STRICT = load_workflow(DESK_YAML.partition("anytime:")[0])


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


def agent_nodes(dialogue: Dialogue) -> list[str]:
    return [turn.node for turn in dialogue.turns if turn.role is Role.AGENT]


async def test_a_dialogue_follows_the_client_s_replies_through_the_calls_to_an_ending(
    server: ScriptedModelServer,
) -> None:
    dialogue = await play(server, plan())
    assert dialogue.end_reason is EndReason.COMPLETED
    assert [(turn.role, turn.text, turn.node) for turn in dialogue.turns] == [
        (Role.AGENT, GREETING, "greet"),
        (Role.CLIENT, "It is PK-4471.", "greet"),
        (Role.TOOL, "look_up: found", "look_up"),
        (Role.AGENT, "Your parcel PK-4471 lies at the depot at North Gate. Is there another parcel?", "tell"),
        (Role.CLIENT, "No, that was all.", "tell"),
        (Role.AGENT, "Then have a nice day, goodbye!", "bye"),
    ]
    assert dialogue.facts == {"code": "PK-4471", "place": "the depot at North Gate"}


async def test_outcomes_that_the_intention_pins_lead_down_their_branch(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan("lost"))
    assert agent_nodes(dialogue) == ["greet", "ask_sender", "bye_sorry"]
    assert [turn.text for turn in dialogue.turns if turn.role is Role.TOOL] == ["look_up: missing", "search: nowhere"]
    assert dialogue.end_reason is EndReason.COMPLETED


async def test_the_reply_that_the_manager_chooses_decides_the_branch(server: ScriptedModelServer) -> None:
    server.decide = deciding(reply="no_code")
    dialogue = await play(server, plan())
    assert agent_nodes(dialogue) == ["greet", "bye_no_code"]


async def test_a_declared_loop_is_gone_round_as_the_client_wants(server: ScriptedModelServer) -> None:
    server.decide = deciding(reply=["gives_code", "another", "no_code"])
    dialogue = await play(server, plan())
    assert agent_nodes(dialogue) == ["greet", "tell", "greet", "bye_no_code"]


async def test_a_reply_that_fits_no_edge_takes_the_default_edge(server: ScriptedModelServer) -> None:
    server.decide = deciding(reply=["gives_code", "another"], applies=[0.9, 0.1])
    dialogue = await play(server, plan())
    assert agent_nodes(dialogue) == ["greet", "tell", "bye"]


async def test_after_a_stray_reply_the_agent_answers_and_asks_again_until_the_dialogue_is_derailed(
    server: ScriptedModelServer,
) -> None:
    server.decide = deciding(applies=0.1)
    dialogue = await play(server, plan(workflow=STRICT, recoveries=2))
    assert dialogue.end_reason is EndReason.DERAILED
    assert [turn.instruction for turn in dialogue.turns if turn.role is Role.AGENT] == [
        f"Say now: {GREETING}",
        f"Answer briefly, then ask again: {GREETING}",
        f"Answer briefly, then ask again: {GREETING}",
    ]
    assert agent_nodes(dialogue) == ["greet"] * 3
    assert [turn.again for turn in dialogue.turns if turn.role is Role.AGENT] == [False, True, True]
    assert dialogue.turns[-1].role is Role.CLIENT


async def test_without_recoveries_the_first_stray_reply_derails(server: ScriptedModelServer) -> None:
    server.decide = deciding(applies=0.1)
    dialogue = await play(server, plan(workflow=STRICT, recoveries=0))
    assert dialogue.end_reason is EndReason.DERAILED
    assert len(dialogue.turns) == 2


async def test_a_reply_that_fits_gives_all_recoveries_back(server: ScriptedModelServer) -> None:
    server.decide = deciding(applies=[0.1, 0.9, 0.1, 0.9])
    dialogue = await play(server, plan("lost", workflow=STRICT, recoveries=1))
    assert agent_nodes(dialogue) == ["greet", "greet", "ask_sender", "ask_sender", "bye_sorry"]


async def test_an_anytime_node_is_said_and_leads_back_to_the_question(server: ScriptedModelServer) -> None:
    server.decide = deciding(applies=[0.1, 0.9, 0.9], aside="person")
    dialogue = await play(server, plan())
    aside = dialogue.turns[2]
    assert (aside.role, aside.node) == (Role.AGENT, "person")
    assert aside.instruction == f"Say now: My colleague is at lunch. {GREETING}"
    assert dialogue.turns[3].node == "greet"
    assert agent_nodes(dialogue) == ["greet", "person", "tell", "bye"]
    assert [turn.again for turn in dialogue.turns if turn.role is Role.AGENT] == [False, True, False, False]


async def test_too_many_asides_in_a_row_derail_too(server: ScriptedModelServer) -> None:
    server.decide = deciding(applies=0.1, aside="person")
    dialogue = await play(server, plan(recoveries=2))
    assert agent_nodes(dialogue) == ["greet", "person", "person"]
    assert dialogue.end_reason is EndReason.DERAILED


async def test_a_client_who_leaves_ends_the_dialogue(server: ScriptedModelServer) -> None:
    server.decide = deciding(applies=0.1, ended=0.9)
    dialogue = await play(server, plan())
    assert dialogue.end_reason is EndReason.CLIENT_LEFT
    assert [turn.role for turn in dialogue.turns] == [Role.AGENT, Role.CLIENT]


async def test_the_turn_limit_counts_the_agent_s_turns(server: ScriptedModelServer) -> None:
    server.decide = deciding(reply=["gives_code", "another"] * 3)
    dialogue = await play(server, plan(max_turns=3))
    assert dialogue.end_reason is EndReason.TURN_LIMIT
    assert agent_nodes(dialogue) == ["greet", "tell", "greet"]


@pytest.mark.parametrize("mute", [Role.AGENT, Role.CLIENT])
async def test_a_role_that_says_nothing_usable_twice_ends_the_dialogue(server: ScriptedModelServer, mute: Role) -> None:
    def say(request: ModelRequest) -> Said:
        return Said("Client: Agent:") if is_agent(request) is (mute is Role.AGENT) else obedient(request)

    server.say = say
    dialogue = await play(server, plan())
    assert dialogue.end_reason is EndReason.SILENT
    assert [turn.role for turn in dialogue.turns] == ([] if mute is Role.AGENT else [Role.AGENT])
    asked = [is_agent(request) for request in server.asked(CHAT)]
    assert asked == ([True, True] if mute is Role.AGENT else [True, False, False])


async def test_what_a_silent_role_cost_is_borne_by_the_last_turn(server: ScriptedModelServer) -> None:
    costs = {"prompt_tokens": 70, "completion_tokens": 3}
    server.say = lambda request: obedient(request) if is_agent(request) else Said("Agent:", **costs)
    (opening,) = (await play(server, plan())).turns
    assert (opening.prompt_tokens, opening.completion_tokens) == (100 + 2 * 70, 10 + 2 * 3)


async def test_a_role_that_says_nothing_usable_once_is_asked_again_and_both_tries_are_counted(
    server: ScriptedModelServer,
) -> None:
    tries = [Said("```", prompt_tokens=70, completion_tokens=3)]
    server.say = lambda request: tries.pop() if tries else obedient(request)
    dialogue = await play(server, plan())
    first = dialogue.turns[0]
    assert first.repairs == ("code", "empty")
    assert (first.prompt_tokens, first.completion_tokens) == (170, 13)
    assert dialogue.end_reason is EndReason.COMPLETED


async def test_what_came_to_nothing_is_told_apart_in_the_dialogue_s_usage(server: ScriptedModelServer) -> None:
    tries = [Said("```", prompt_tokens=70, completion_tokens=3, cached_tokens=7)]
    server.say = lambda request: tries.pop() if tries else obedient(request)
    usage = (await play(server, plan())).usage
    wasted = usage[Account(Part.AGENT, "scripted", wasted=True)]
    assert (wasted.prompt_tokens, wasted.completion_tokens, wasted.cached_tokens) == (70, 3, 7)
    assert usage[Account(Part.AGENT, "scripted")].prompt_tokens == 300


async def test_an_agent_that_never_opened_is_no_turn_s_cost_but_the_dialogue_s(server: ScriptedModelServer) -> None:
    server.say = lambda _: Said("Client:", prompt_tokens=70, completion_tokens=3)
    dialogue = await play(server, plan())
    assert dialogue.turns == ()
    ((account, usage),) = dialogue.usage.items()
    assert (account, usage.prompt_tokens) == (Account(Part.AGENT, "scripted", wasted=True), 140)


async def test_what_was_mended_is_recorded_and_what_was_cut_off_dropped(server: ScriptedModelServer) -> None:
    def say(request: ModelRequest) -> Said:
        if is_agent(request):
            return obedient(request)
        if "tracking code" in request.last:
            return Said("It is PK-4471. Agent: Thanks.")
        return Said("No, that was all. And then I went to", is_cut=True)

    server.say = say
    dialogue = await play(server, plan())
    replies = [turn for turn in dialogue.turns if turn.role is Role.CLIENT]
    assert [(turn.text, turn.repairs) for turn in replies] == [
        ("It is PK-4471.", ("role_leak",)),
        ("No, that was all.", ("unfinished",)),
    ]


async def test_every_turn_is_told_as_it_is_made(server: ScriptedModelServer) -> None:
    told = []

    async def hear(turn: object) -> None:
        told.append(turn)

    dialogue = await play(server, plan("lost"), told=hear)
    assert tuple(told) == dialogue.turns


@pytest.mark.parametrize("script", [{}, {"reply": "no_code"}, {"applies": [0.1, 0.9, 0.1]}, {"ended": [0.1, 0.99]}])
async def test_speaking_ahead_changes_no_word_of_a_dialogue(
    server: ScriptedModelServer, script: dict[str, object]
) -> None:
    def words(dialogue: Dialogue) -> list[tuple[str, ...]]:
        return [(turn.role, turn.text, turn.node, turn.instruction) for turn in dialogue.turns]

    def again() -> dict[str, object]:
        return {name: list(answer) if isinstance(answer, list) else answer for name, answer in script.items()}

    server.decide = deciding(**again())
    plain = await play(server, plan("late"))
    server.decide = deciding(**again())
    ahead = await play(server, plan("late"), speculate=True)
    assert words(ahead) == words(plain)
    assert ahead.end_reason is plain.end_reason
    assert ahead.facts == plain.facts
