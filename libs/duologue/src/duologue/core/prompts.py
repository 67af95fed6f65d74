"""What client, agent and manager are asked: the prompts of structured self-talk (METHOD: structured prompting).

Prompts are built prefix-first: what never changes stands first, the history grows in the middle, and the instruction
of the turn comes last, so that a model server's prefix cache hits. Change a wording: change `PROMPTS_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Literal, Required

# typing.TypedDict before Python 3.12 is not enough for pydantic.
from typing_extensions import TypedDict

from duologue.core.dialogue import Role
from duologue.core.persona import Persona
from duologue.core.scores import Utterance
from duologue.core.workflow import PLACEHOLDER, Intention, SayNode, Workflow, fill

PROMPTS_VERSION = "2"

# A model that goes on past its turn writes the other side's name next. Its own name it may begin with: that is mended.
STOP = {Role.AGENT: ("Client:",), Role.CLIENT: ("Agent:",)}

# The option of the `aside` question for a client who wants none of them. No node can have this id.
NO_ASIDE = "-"


class Message(TypedDict):
    """One message of a chat prompt, as OpenAI-compatible servers take it."""

    role: str
    content: str


class Question(TypedDict, total=False):
    """A typed question, as /v1/systemone takes it.

    `type` is "choice", with `criteria` from option to description, or "noul", which is yes or no and has none.
    """

    type: Required[Literal["choice", "noul"]]
    instructions: Required[str]
    criteria: dict[str, str]


def agent_prompt(workflow: Workflow, history: Sequence[Utterance], instruction: str) -> list[Message]:
    """The agent's prompt for its next turn. `instruction` is "" or what `say_now` and its like return."""
    system = (
        f"You are {workflow.agent.role}. {workflow.agent.persona} "
        "You talk to a client. Be brief. Say goodbye only once, at the end."
    )
    return _prompt(system, history, speaker=Role.AGENT, instruction=instruction)


def client_prompt(
    workflow: Workflow, persona: Persona, intention: Intention, history: Sequence[Utterance]
) -> list[Message]:
    """The client's prompt for its next turn. The client knows its own facts and nothing of the workflow."""
    facts = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in intention.facts.items())
    system = (
        f"You are {persona.character}. {persona.description} "
        f"Your intention is to talk to {workflow.agent.role} to {intention.goal}. "
        + (f"Facts: {facts}. " if facts else "")
        + "Be brief. Say goodbye only once, at the end."
    )
    return _prompt(system, history, speaker=Role.CLIENT, instruction="")


def _prompt(system: str, history: Sequence[Utterance], speaker: Role, instruction: str) -> list[Message]:
    messages: list[Message] = [{"role": "system", "content": system}]
    for turn in history:
        if turn.role is Role.TOOL:
            continue
        role = "assistant" if turn.role is speaker else "user"
        messages.append({"role": role, "content": turn.text})
    # Chat templates want a user message last; the instruction rides on it, where no prefix is spoilt. Some want one
    # first too, and refuse an agent that opens: theirs is `in_turns`.
    if messages[-1]["role"] != "user":
        messages.append({"role": "user", "content": ""})
    if instruction:
        last = messages[-1]["content"]
        messages[-1] = {"role": "user", "content": f"{last}\n[{instruction}]" if last else f"[{instruction}]"}
    return messages


def in_turns(messages: Sequence[Message]) -> list[Message]:
    """The same prompt for a chat template that takes only user and assistant in turns, and a user first.

    What the system says becomes the user's, and neighbours of the same role become one message. Gemma's and Mistral's
    templates are such.
    """
    turns: list[Message] = []
    for message in messages:
        role = "user" if message["role"] == "system" else message["role"]
        if turns and turns[-1]["role"] == role:
            parts = (turns[-1]["content"], message["content"])
            turns[-1] = {"role": role, "content": "\n\n".join(part for part in parts if part)}
        else:
            turns.append({"role": role, "content": message["content"]})
    return turns


def say_now(text: str) -> str:
    return f"Say now: {text}"


def ask_again(text: str) -> str:
    """When the client's reply fits no edge: answer, then ask again."""
    return f"Answer briefly, then ask again: {text}"


def manager_state(history: Sequence[Utterance]) -> str:
    """What the workflow manager looks at: the last exchange."""
    names = {Role.AGENT: "Agent", Role.CLIENT: "Client"}
    return "\n".join(f"{names[turn.role]}: {turn.text}" for turn in history[-2:] if turn.role in names)


def reply_wordings(node: SayNode, facts: Mapping[str, str]) -> dict[str, str]:
    """For each edge of a node the wording by which a manager knows it."""
    return {
        edge_id: fill(reply.examples[0], facts) if reply.examples else "any answer to the question"
        for edge_id, reply in node.replies.items()
    }


def manager_questions(workflow: Workflow, node: SayNode, facts: Mapping[str, str]) -> dict[str, Question]:
    """All questions about the client's last reply, for one request of typed decisions.

    `reply` is a choice among the node's edges (left out where there is one), `applies` whether any does, `aside` which
    anytime node, or none (left out where there is none to ask for), `ended` whether the conversation is over.
    """
    questions: dict[str, Question] = {}
    replies = reply_wordings(node, facts)
    if len(replies) > 1:
        questions["reply"] = {"type": "choice", "instructions": "Which reply is the client's?", "criteria": replies}
    listed = " / ".join(replies.values())
    questions["applies"] = {"type": "noul", "instructions": f"Is the client's reply one of these? {listed}"}
    asides = {
        name: fill(anytime.when[0], facts)
        for name, anytime in workflow.anytime.items()
        if anytime.when and facts.keys() >= set(PLACEHOLDER.findall(anytime.say + anytime.when[0]))
    }
    if asides:
        criteria = {**asides, NO_ASIDE: "something else"}
        questions["aside"] = {"type": "choice", "instructions": "What does the client want?", "criteria": criteria}
    questions["ended"] = {"type": "noul", "instructions": "Is the conversation over?"}
    return questions


def consistency_state(character: str, description: str) -> str:
    return f"Character: {character}. {description}"


def consistency_question(text: str) -> Question:
    """Whether one utterance fits the character."""
    return {"type": "noul", "instructions": f'Does this fit the character? "{text}"'}


def options_of(question: Question) -> list[str]:
    """The answers that a question has."""
    return ["yes", "no"] if question["type"] == "noul" else list(question["criteria"])


def labels_prompt(state: str, questions: Mapping[str, Question]) -> list[Message]:
    """All questions about a state for a server without typed decisions: a letter for each, and nothing else.

    The state comes first, so that other questions about it find it in the server's prefix cache.
    """
    asked = "\n".join(
        f"{place}. {question['instructions']}\n{_lettered(question)}"
        for place, question in enumerate(questions.values(), start=1)
    )
    system = (
        "You answer questions about a text. Write the letter of one option for each question, in the order of the "
        "questions, with a space between them, and nothing else."
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": f"{state}\n\n{asked}"}]


def _lettered(question: Question) -> str:
    descriptions = question.get("criteria") or {"yes": "yes", "no": "no"}
    return "\n".join(f"{letter}) {text}" for letter, text in zip(ascii_uppercase, descriptions.values(), strict=False))
