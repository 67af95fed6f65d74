"""The preset ulmer2024: dialogues by the paper's rules, and what is made of answers in plain text."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from businesses import random_workflow
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.core.dialogue import Dialogue, EndReason, Preset, Role
from duologue.core.scores import Utterance
from duologue.core.ulmer2024 import ANSWER_NATURALLY, PROMPTS_VERSION
from duologue.core.workflow import EndNode
from duologue_roleplay.self_talk import Plan
from duologue_roleplay.ulmer2024 import NONE_OF_THEM, UNREADABLE, has_key_phrase, read_choice, read_stage
from tests.support.desk import DESK
from tests.support.desk_models import AGENT_TOKENS, CLIENT_TOKENS, as_in_the_paper, is_agent, is_choice, is_stage, play
from tests.support.desk_models import plan as plan_of
from tests.support.model_server import CHAT, ModelRequest, ScriptedModelServer

GREETING = "Hello, this is the parcel desk. What is your tracking code?"
EDGES = ("gives_code", "no_code")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(as_in_the_paper()) as server:
        yield server


def plan(**changes: object) -> Plan:
    """As a campaign of the preset asks for it."""
    return plan_of(**{"preset": Preset.ULMER2024, "max_turns": 8, "recoveries": 100} | changes)


def agent_nodes(dialogue: Dialogue) -> list[str]:
    return [turn.node for turn in dialogue.turns if turn.role is Role.AGENT]


def kinds(server: ScriptedModelServer) -> list[str]:
    return [kind(request) for request in server.requests]


def kind(request: ModelRequest) -> str:
    if request.path != CHAT:
        return request.path
    return (
        "choice" if is_choice(request) else "stage" if is_stage(request) else "agent" if is_agent(request) else "client"
    )


# What is read out of text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2", "no_code"),
        (" 1\n", "gives_code"),
        ("2.", "no_code"),
        ("2) I have no code.", "no_code"),
        ("The answer is number 1.", "gives_code"),
        ("1 or 2", "gives_code"),
        ("3", NONE_OF_THEM),
        ("3. None of the above", NONE_OF_THEM),
        ("None of the above.", NONE_OF_THEM),
        ("NONE", NONE_OF_THEM),
        ("0", UNREADABLE),
        ("4", UNREADABLE),
        ("12345678", UNREADABLE),
        ("HP1", UNREADABLE),
        ("Yes.", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_the_manager_s_number_is_read_out_of_what_it_writes(text: str, answer: str) -> None:
    assert read_choice(text, EDGES).answer == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("end", "end"),
        (" End.", "end"),
        ("**end**", "end"),
        ("middle", "middle"),
        ("mid", "middle"),
        ("Start", "start"),
        ("e", UNREADABLE),
        ("ended", UNREADABLE),
        ("not the end", UNREADABLE),
        ("3", UNREADABLE),
        ("", UNREADABLE),
    ],
)
def test_the_end_detector_s_one_token_is_the_beginning_of_a_word(text: str, answer: str) -> None:
    assert read_stage(text).answer == answer


@given(st.text(max_size=30), st.integers(1, 4))
def test_whatever_is_written_is_one_of_the_options_for_certain(text: str, replies: int) -> None:
    for decision in (read_stage(text), read_choice(text, [f"edge_{index}" for index in range(replies)])):
        assert decision.probability == 1.0
        assert sum(decision.probabilities.values()) == 1.0


def history(*said: str, role: Role = Role.AGENT) -> list[Utterance]:
    """Agent and client in turns, the agent first."""
    return [Utterance(Role.CLIENT if index % 2 else role, text) for index, text in enumerate(said)]


@pytest.mark.parametrize("said", ["Goodbye!", "Well, good luck then.", "You're welcome.", "You\u2019re welcome."])
def test_a_key_phrase_of_either_side_ends_a_dialogue_while_it_is_in_the_last_two_utterances(said: str) -> None:
    assert has_key_phrase(history("Hello.", said))
    assert has_key_phrase(history(said, "Thanks."))
    assert not has_key_phrase(history(said, "Thanks.", "One more thing."))
    assert not has_key_phrase(history("Hello.", "Bye."))


def test_what_tools_do_between_two_utterances_is_not_one_of_them() -> None:
    assert has_key_phrase([*history("Goodbye!"), Utterance(Role.TOOL, "log: done"), Utterance(Role.CLIENT, "Thanks.")])


# How a dialogue goes


async def test_the_option_that_is_picked_is_the_edge_that_is_taken(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan())
    assert agent_nodes(dialogue) == ["greet", "tell", "bye"]
    assert dialogue.end_reason is EndReason.COMPLETED
    assert [turn.text for turn in dialogue.turns if turn.role is Role.TOOL] == ["look_up: found"]
    server.say = as_in_the_paper(choices=["The number is 2."])
    assert agent_nodes(await play(server, plan())) == ["greet", "bye_no_code"]


@pytest.mark.parametrize("answer", ["3", "None of the above", "17", "It is PK-4471.", ""])
async def test_where_none_is_picked_the_agent_answers_naturally_and_the_dialogue_stays_at_its_node(
    server: ScriptedModelServer, answer: str
) -> None:
    server.say = as_in_the_paper(choices=[answer, "1"])
    dialogue = await play(server, plan())
    said = [turn for turn in dialogue.turns if turn.role is Role.AGENT]
    assert [turn.node for turn in said] == ["greet", "", "tell", "bye"]
    assert said[1].instruction == ANSWER_NATURALLY
    assert not any(turn.again for turn in said)
    assert [turn.node for turn in dialogue.turns if turn.role is Role.CLIENT] == ["greet", "greet", "tell"]


async def test_the_default_edge_and_anytime_nodes_are_not_for_replies_that_fit_nothing(
    server: ScriptedModelServer,
) -> None:
    server.say = as_in_the_paper(choices=["1", "3", "2"])
    assert agent_nodes(await play(server, plan())) == ["greet", "tell", "", "bye"]


async def test_nothing_is_ever_derailed_a_dialogue_has_eight_turns_each(server: ScriptedModelServer) -> None:
    server.say = as_in_the_paper(choices=["none"] * 9)
    dialogue = await play(server, plan())
    assert dialogue.end_reason is EndReason.TURN_LIMIT
    assert [turn.role for turn in dialogue.turns] == [Role.AGENT, Role.CLIENT] * 8
    assert agent_nodes(dialogue) == ["greet"] + [""] * 7


async def test_a_key_phrase_ends_a_dialogue_and_nobody_is_asked(server: ScriptedModelServer) -> None:
    server.say = as_in_the_paper(replies=["I have to go, goodbye."])
    dialogue = await play(server, plan())
    assert dialogue.end_reason is EndReason.CLIENT_LEFT
    assert kinds(server) == ["agent", "client"]
    (decision,) = dialogue.turns[-1].decisions
    assert (decision.question, decision.answer) == ("key_phrase", "yes")


async def test_the_end_detector_s_word_ends_a_dialogue_before_a_reply_is_chosen(server: ScriptedModelServer) -> None:
    server.say = as_in_the_paper(stages=["start", "end"])
    dialogue = await play(server, plan())
    assert dialogue.end_reason is EndReason.CLIENT_LEFT
    assert agent_nodes(dialogue) == ["greet", "tell"]
    assert kinds(server)[-1] == "stage"


async def test_without_structured_prompting_only_the_end_is_looked_for(server: ScriptedModelServer) -> None:
    server.say = as_in_the_paper(stages=["middle", "nonsense", "end"])
    dialogue = await play(server, plan(structured=False))
    assert dialogue.end_reason is EndReason.CLIENT_LEFT
    assert kinds(server) == ["agent", "client", "stage"] * 3
    assert {(turn.node, turn.instruction) for turn in dialogue.turns} == {("", "")}


@pytest.mark.parametrize("choices", [[], ["none", "1"], ["2"]])
async def test_speaking_ahead_changes_no_word_of_a_dialogue(server: ScriptedModelServer, choices: list[str]) -> None:
    server.say = as_in_the_paper(choices)
    plain = await play(server, plan())
    server.say = as_in_the_paper(choices)
    ahead = await play(server, plan(), speculate=True)
    assert [(turn.text, turn.node) for turn in ahead.turns] == [(turn.text, turn.node) for turn in plain.turns]


ANSWERS = st.one_of(
    st.integers(0, 6).map(str), st.sampled_from(["none", "No idea.", "Option 1 (surely)", "\U0001f937"])
)
STAGES = st.sampled_from(["start", "middle", "middle", "middle", "", "The", "end"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(ANSWERS, max_size=12), st.lists(STAGES, max_size=12), st.integers(1, 10))
def test_whatever_models_write_a_dialogue_stays_in_its_graph_and_ends(
    seed: int, choices: Sequence[str], stages: Sequence[str], max_turns: int
) -> None:
    workflow = random_workflow(random.Random(seed))

    async def talk() -> Dialogue:
        async with ScriptedModelServer(as_in_the_paper(choices, stages)) as server:
            return await play(server, plan(intention=workflow.intentions[0].id, workflow=workflow, max_turns=max_turns))

    dialogue = asyncio.run(talk())
    assert 1 <= len(dialogue.said_by(Role.AGENT)) <= max_turns
    assert len(dialogue.said_by(Role.CLIENT)) <= max_turns
    path = [name for name in agent_nodes(dialogue) if name]
    assert path[0] in workflow.entry
    assert all(after in workflow.spoken_after[before] for before, after in pairwise(path))
    assert (dialogue.end_reason is EndReason.COMPLETED) == isinstance(workflow.nodes[path[-1]], EndNode)


# What is asked


async def test_the_manager_sees_the_reply_and_the_edges_as_numbered_options_and_none_of_them(
    server: ScriptedModelServer,
) -> None:
    await play(server, plan())
    choice = next(request for request in server.requests if is_choice(request))
    assert choice.last.splitlines() == [
        "The client said: It is PK-4471.",
        "",
        "1. It is PK-4471.",
        "2. I have no code.",
        "3. None of the above",
        "",
        "Which number is it?",
    ]


async def test_the_end_detector_sees_the_last_exchange(server: ScriptedModelServer) -> None:
    await play(server, plan())
    _, second = (request.last for request in server.requests if is_stage(request))
    assert second.startswith("Agent: Your parcel PK-4471 lies at the depot")
    assert "Client: No, that was all." in second
    assert GREETING not in second


async def test_two_more_requests_decide_about_a_reply_one_of_them_for_a_single_token(
    server: ScriptedModelServer,
) -> None:
    await play(server, plan())
    assert kinds(server) == ["agent", "client", "stage", "choice"] * 2 + ["agent"]
    for request in server.requests[2:4]:
        assert request.body["temperature"] == 0
    assert server.requests[2].body["max_tokens"] == 1


async def test_the_client_s_model_is_the_manager_unless_another_is_named(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan(client_model="c", agent_model="a"))
    assert [request.body["model"] for request in server.requests[:4]] == ["a", "c", "c", "c"]
    assert dialogue.provenance.manager_model == "c"
    server.requests.clear()
    await play(server, plan(client_model="c", agent_model="a", manager_model="m"))
    assert [request.body["model"] for request in server.requests[:4]] == ["a", "c", "m", "m"]


async def test_client_and_agent_read_the_talk_as_text_and_stop_at_the_other_s_name(server: ScriptedModelServer) -> None:
    await play(server, plan())
    agent, client = server.requests[4:6]
    for request, other in ((agent, "Client:"), (client, "Agent:")):
        assert [message["role"] for message in request.messages] == ["system", "user"]
        assert request.last.startswith(f"Agent: {GREETING}\nClient: It is PK-4471.\n")
        assert request.body["stop"] == [other]
    assert "Say now: Your parcel PK-4471 lies at the depot at North Gate." in agent.last
    assert "Say now" not in client.last


async def test_a_dialogue_says_by_which_preset_it_was_played(server: ScriptedModelServer) -> None:
    provenance = (await play(server, plan())).provenance
    assert (provenance.preset, provenance.prompts_version) == (Preset.ULMER2024, PROMPTS_VERSION)


async def test_tokens_and_seconds_of_the_manager_are_the_client_s_turn_s(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan())
    agent, client = dialogue.turns[:2]
    assert (agent.prompt_tokens, agent.completion_tokens) == AGENT_TOKENS
    # 20 read and 5 written for each of the two questions
    assert (client.prompt_tokens, client.completion_tokens) == (CLIENT_TOKENS[0] + 2 * 20, CLIENT_TOKENS[1] + 2 * 5)
    assert client.seconds > 0


async def test_a_plan_that_is_played_again_asks_for_the_same(server: ScriptedModelServer) -> None:
    await play(server, plan(workflow=DESK))
    await play(server, plan(workflow=DESK))
    half = len(server.requests) // 2
    assert [request.body for request in server.requests[:half]] == [request.body for request in server.requests[half:]]
