"""The paper's prompts: plain text, with all that it names and nothing that a side must not know."""

from hypothesis import given
from hypothesis import strategies as st

from duologue.core.dialogue import Role
from duologue.core.persona import Persona
from duologue.core.prompts import say_now
from duologue.core.scores import Utterance
from duologue.core.ulmer2024 import agent_prompt, choice_prompt, client_prompt, last_exchange, stage_prompt
from duologue.core.workflow_file import load_workflow

WORKFLOW = load_workflow("""\
workflow: parcel
title: Bring a parcel again
agent: {role: a dispatcher, persona: I plan the vans.}
intentions: [{id: books, goal: get a box of books, facts: {tracking_code: HP1}}]
start: ask
nodes:
  ask: {say: "Which day is best?", replies: {any: {to: bye, default: true}}}
  bye: {end: Goodbye then.}
""")
PERSONA = Persona(id="teacher", character="a retired teacher", description="I like things explained.")
TALK = [
    Utterance(Role.AGENT, "Which day?"),
    Utterance(Role.TOOL, "look_up: found"),
    Utterance(Role.CLIENT, "Monday."),
]
TURNS = st.builds(Utterance, st.sampled_from(list(Role)), st.text(max_size=20))


def test_the_agent_s_prompt_has_character_persona_rule_history_what_to_say_and_whose_turn_it_is() -> None:
    system, user = (message["content"] for message in agent_prompt(WORKFLOW, TALK, say_now("Which van?")))
    assert system.startswith("You are a dispatcher. I plan the vans. ")
    assert system.endswith("Say goodbye only once, at the end of the conversation.")
    talk, told, order = user.split("\n\n")
    assert talk == "Agent: Which day?\nClient: Monday."
    assert told == "Say now: Which van?"
    assert order.startswith("Agent and Client take turns. It is the Agent's turn now: ")
    assert order.endswith("write what the Agent says, and nothing for the Client.")


def test_the_client_s_prompt_has_its_intention_and_nothing_of_the_workflow() -> None:
    system, user = (
        message["content"] for message in client_prompt(WORKFLOW, PERSONA, WORKFLOW.intention("books"), TALK)
    )
    assert system == (
        "You are a retired teacher. I like things explained. Your intention is to talk to a dispatcher to get a box of "
        "books. Facts: tracking code: HP1. Say goodbye only once, at the end of the conversation. Be brief."
    )
    assert user.endswith("It is the Client's turn now: write what the Client says, and nothing for the Agent.")
    assert "Which day is best?" not in system + user


@given(st.lists(TURNS, max_size=6), st.sampled_from(["", say_now("Which day?")]))
def test_what_never_changes_stands_in_a_message_of_its_own(history: list[Utterance], instruction: str) -> None:
    plain = agent_prompt(WORKFLOW, [], "")
    assert agent_prompt(WORKFLOW, history, instruction)[0] == plain[0]
    assert len(plain) == 2


@given(st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=5))
def test_the_manager_s_options_are_numbered_in_their_order_and_the_last_is_none(wordings: list[str]) -> None:
    asked = choice_prompt("Monday.", wordings)[1]["content"]
    expected = "\n".join(f"{number}. {wording}" for number, wording in enumerate(wordings, start=1))
    assert f"\n\n{expected}\n{len(wordings) + 1}. None of the above\n\n" in asked


def test_the_end_detector_s_prompt_has_the_last_exchange_without_tools() -> None:
    assert stage_prompt(TALK)[1]["content"].startswith("Agent: Which day?\nClient: Monday.\n\n")
    assert last_exchange([*TALK, Utterance(Role.AGENT, "Fine.")]) == [TALK[2], Utterance(Role.AGENT, "Fine.")]
