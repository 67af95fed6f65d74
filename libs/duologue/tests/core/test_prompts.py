"""Prompts grow at their end, so that a model server's prefix cache hits; and nobody is told what they must not know."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from duologue.core.dialogue import Role
from duologue.core.persona import Persona
from duologue.core.prompts import Message, agent_prompt, ask_again, client_prompt, manager_state, say_now
from duologue.core.scores import Utterance
from duologue.core.workflow_file import load_workflow

WORKFLOW = load_workflow("""\
workflow: parcel
title: Bring a parcel again
agent: {role: a dispatcher, persona: I plan the vans.}
intentions: [{id: books, goal: get a box of books, facts: {tracking_code: HP1, day: Monday}}]
start: ask
nodes:
  ask: {say: "Which day is best?", replies: {any: {to: bye, default: true}}}
  bye: {end: Goodbye then.}
""")
PERSONA = Persona(id="teacher", character="a retired teacher", description="I like things explained.")
TURNS = st.builds(Utterance, st.sampled_from(list(Role)), st.text(max_size=20))
HISTORIES = st.lists(TURNS, max_size=8)
INSTRUCTIONS = st.sampled_from(["", say_now("Which day?"), ask_again("Which day?")])


def prompt_of_client(history: list[Utterance]) -> list[Message]:
    return client_prompt(WORKFLOW, PERSONA, WORKFLOW.intention("books"), history)


@given(HISTORIES, HISTORIES, INSTRUCTIONS, INSTRUCTIONS)
def test_the_agents_next_prompt_begins_with_the_last_one_apart_from_its_last_message(
    history: list[Utterance], more: list[Utterance], instruction: str, following: str
) -> None:
    before = agent_prompt(WORKFLOW, history, instruction)
    after = agent_prompt(WORKFLOW, [*history, *more], following)
    assert after[: len(before) - 1] == before[:-1]


@given(HISTORIES, HISTORIES)
def test_the_clients_next_prompt_begins_with_the_last_one_apart_from_its_last_message(
    history: list[Utterance], more: list[Utterance]
) -> None:
    before, after = prompt_of_client(history), prompt_of_client([*history, *more])
    assert after[: len(before) - 1] == before[:-1]


@given(HISTORIES, INSTRUCTIONS)
def test_a_prompt_has_one_system_message_first_and_asks_last(history: list[Utterance], instruction: str) -> None:
    for prompt in (agent_prompt(WORKFLOW, history, instruction), prompt_of_client(history)):
        assert [message["role"] for message in prompt].index("system") == 0
        assert sum(message["role"] == "system" for message in prompt) == 1
        assert prompt[-1]["role"] == "user"


@given(HISTORIES, INSTRUCTIONS)
def test_everybody_sees_what_both_said_and_nothing_of_the_tools(history: list[Utterance], instruction: str) -> None:
    spoken = [turn for turn in history if turn.role is not Role.TOOL]
    for speaker, prompt in (
        (Role.AGENT, agent_prompt(WORKFLOW, history, "")),
        (Role.CLIENT, prompt_of_client(history)),
    ):
        said = [(message["role"], message["content"]) for message in prompt[1:]]
        expected = [("assistant" if turn.role is speaker else "user", turn.text) for turn in spoken]
        if not spoken or spoken[-1].role is speaker:
            expected.append(("user", ""))
        assert said == expected


@given(HISTORIES)
def test_the_instruction_rides_on_the_last_message_alone(history: list[Utterance]) -> None:
    plain = agent_prompt(WORKFLOW, history, "")
    told = agent_prompt(WORKFLOW, history, say_now("Which day?"))
    assert told[:-1] == plain[:-1]
    assert told[-1]["content"].endswith("[Say now: Which day?]")
    assert told[-1]["content"].startswith(plain[-1]["content"])


def test_the_client_knows_itself_its_goal_and_its_facts_but_nothing_of_the_workflow() -> None:
    system = prompt_of_client([])[0]["content"]
    for part in (PERSONA.character, PERSONA.description, "a dispatcher", "get a box of books", "tracking code: HP1"):
        assert part in system
    assert "Which day is best?" not in system


def test_the_agent_knows_its_role_but_nothing_of_the_client() -> None:
    system = agent_prompt(WORKFLOW, [], "")[0]["content"]
    assert "a dispatcher" in system
    assert "I plan the vans." in system
    for part in (PERSONA.character, PERSONA.description, "box of books", "HP1"):
        assert part not in system


def test_the_manager_sees_the_last_exchange() -> None:
    history = [Utterance(Role.AGENT, "Hello?"), Utterance(Role.CLIENT, "Hi."), Utterance(Role.AGENT, "Which day?")]
    for before, last in pairwise(history):
        sentences = manager_state([*history[: history.index(before)], before, last]).splitlines()
        assert sentences == [f"{turn.role.value.capitalize()}: {turn.text}" for turn in (before, last)]
