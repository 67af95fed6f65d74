"""The preset `ulmer2024`: the paper's figures, and its prompts as far as METHOD tells them.

What it does not tell (the order of some sentences, the words of the manager's questions) is ours. Everything is plain
text in one message, rebuilt for every turn, and answers are read out of text: for comparison with `core.prompts`, not
for use. Change a wording: change `PROMPTS_VERSION`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from duologue.core.dialogue import Role
from duologue.core.persona import Persona
from duologue.core.prompts import Message
from duologue.core.scores import Utterance
from duologue.core.workflow import Intention, Workflow

PROMPTS_VERSION = "1"

# All that the paper names, also where Duologue's own default is the same today (METHOD: structured prompting, filters,
# training). It knows no derailing: a hundred stray replies in a row are as many as a dialogue can have.
DEFAULTS: dict[str, Any] = {
    "decoding": {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "max_tokens": 100},
    "role_play": {"max_turns": 8, "recoveries": 100},
    "filters": [{"kind": "top", "metric": "subgoals_relative", "share": 0.05}],
    "training": {
        "rank": 64,
        "learning_rate": 5e-4,
        "weight_decay": 0.01,
        "batch_size": 4,
        "epochs": 1,
        "min_kept": 1,
        "accumulate": False,
    },
    "evaluation": {"dialogues": 100, "structured": True},
}

KEY_PHRASES = ("goodbye", "good luck", "you're welcome")
STAGES = ("start", "middle", "end")

# What the agent is told where no reply fits.
ANSWER_NATURALLY = "Answer naturally."

_GOODBYE = "Say goodbye only once, at the end of the conversation."
_NAMES = {Role.AGENT: "Agent", Role.CLIENT: "Client"}


def agent_prompt(workflow: Workflow, history: Sequence[Utterance], instruction: str) -> list[Message]:
    """The agent's prompt for its next turn. `instruction` is "" or what it must say now."""
    system = f"You are {workflow.agent.role}. {workflow.agent.persona} You talk to a client. {_GOODBYE}"
    return _prompt(system, history, Role.AGENT, instruction)


def client_prompt(
    workflow: Workflow, persona: Persona, intention: Intention, history: Sequence[Utterance]
) -> list[Message]:
    """The client's prompt for its next turn. The facts are ours: the paper's intentions have none."""
    facts = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in intention.facts.items())
    system = (
        f"You are {persona.character}. {persona.description} "
        f"Your intention is to talk to {workflow.agent.role} to {intention.goal}. "
        + (f"Facts: {facts}. " if facts else "")
        + f"{_GOODBYE} Be brief."
    )
    return _prompt(system, history, Role.CLIENT, "")


def choice_prompt(reply: str, wordings: Iterable[str]) -> list[Message]:
    """The workflow manager's: the client's reply, and numbered options, of which the last is none of them."""
    options = "\n".join(
        f"{number}. {wording}" for number, wording in enumerate([*wordings, "None of the above"], start=1)
    )
    system = "You decide which of the listed replies a client has given. Answer with its number and nothing else."
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"The client said: {reply}\n\n{options}\n\nWhich number is it?"},
    ]


def stage_prompt(history: Sequence[Utterance]) -> list[Message]:
    """The end detector's: the last exchange."""
    system = "You decide where in a conversation an exchange stands. Answer with one word: start, middle or end."
    question = "Is this the start, the middle or the end of the conversation?"
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"{_transcript(last_exchange(history))}\n\n{question}"},
    ]


def last_exchange(history: Sequence[Utterance]) -> list[Utterance]:
    """The last two utterances; what tools did in between is not talk."""
    return [turn for turn in history if turn.role is not Role.TOOL][-2:]


def _prompt(system: str, history: Sequence[Utterance], speaker: Role, instruction: str) -> list[Message]:
    """The history as text, what to say now, and whose turn it is."""
    other = Role.CLIENT if speaker is Role.AGENT else Role.AGENT
    order = (
        f"Agent and Client take turns. It is the {_NAMES[speaker]}'s turn now: write what the {_NAMES[speaker]} says, "
        f"and nothing for the {_NAMES[other]}."
    )
    parts = (_transcript(history), instruction, order)
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": "\n\n".join(part for part in parts if part)},
    ]


def _transcript(history: Sequence[Utterance]) -> str:
    return "\n".join(f"{_NAMES[turn.role]}: {turn.text}" for turn in history if turn.role in _NAMES)
