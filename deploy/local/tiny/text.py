"""The training text: dialogues along workflows (see `talks`), as the three parts that the model plays would see them.

Every prompt is made by `duologue.core.prompts`, so that what is trained is what is asked later.

Usage: `python text.py [SEED]` prints one example of each kind.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from businesses import random_workflow, stray
from people import TEMPERS, in_temper, random_persona
from talks import Exchange, Sources, Talk, ramble, wish, wording
from words import PHRASES, goal, made_up, phrase, sentence, thing

from duologue.core.dialogue import Role
from duologue.core.prompts import (
    NO_ASIDE,
    Message,
    agent_prompt,
    client_prompt,
    consistency_question,
    consistency_state,
    manager_questions,
    manager_state,
    say_now,
)
from duologue.core.scores import Utterance
from duologue.core.workflow import EndNode, SayNode, Workflow, fill


@dataclass(frozen=True)
class AgentText:
    """A dialogue as the agent sees it, without instructions, and what it says to each instructed prompt."""

    history: list[Message]
    turns: list[tuple[list[Message], str]]


@dataclass(frozen=True)
class ClientText:
    """A dialogue as the client sees it; the assistant's messages are the client's."""

    messages: list[Message]


@dataclass(frozen=True)
class DecisionText:
    """A request of typed decisions, and the right answers by question; what is not known is left out."""

    request: dict[str, Any]
    answers: dict[str, str]


Example = AgentText | ClientText | DecisionText


def examples(seed: int) -> Iterator[Example]:
    """Endless training examples, whole dialogues and short drills; the same for the same seed."""
    rng = random.Random(seed)
    sources = Sources.load()
    while True:
        yield agent_text(sources.talk(rng))
        yield client_text(sources.talk(rng), rng)
        for _ in range(4):
            yield manager_text(sources.talk(rng), rng)
        yield consistency_text(sources.talk(rng), rng)
        for drill in (_drill(rng), _drill(rng)):
            yield agent_text(drill)
            yield client_text(drill, rng)
            yield manager_text(drill, rng)
            yield choice_text(drill, rng)


def _drill(rng: random.Random) -> Talk:
    """One turn without slips: say this sentence, give that fact, name the option that was said.

    In whole dialogues what to carry over stands far from where it goes, among much else; here a small model finds out
    sooner that it is to be carried over.
    """
    workflow = random_workflow(rng)
    persona, temper = random_persona(rng)
    talk = Talk(workflow, persona, temper, workflow.intentions[0])
    node = rng.choice([node for node in workflow.nodes.values() if isinstance(node, SayNode)])
    text = fill(node.say, talk.intention.facts)
    gives_facts = [name for name, reply in node.replies.items() if any("{" in text for text in reply.examples)]
    reply = rng.choice(gives_facts or list(node.replies))
    exchange = Exchange(node, talk.intention.facts, say_now(text), text, text, None, reply=reply)
    exchange.client = fill(wording(talk, node, reply, False, rng), talk.intention.facts)
    talk.exchanges.append(exchange)
    return talk


def agent_text(talk: Talk) -> AgentText:
    turns = []
    for index, exchange in enumerate(talk.exchanges):
        prompt = agent_prompt(talk.workflow, talk.history(index), exchange.instruction)
        turns.append((prompt, exchange.written))
    return AgentText(agent_prompt(talk.workflow, talk.history(len(talk.exchanges)), ""), turns)


def client_text(talk: Talk, rng: random.Random) -> ClientText:
    """The whole dialogue; one in twenty-five is a client who speaks first."""
    history = talk.history(len(talk.exchanges))
    last = ""
    if rng.random() < 0.04:
        history, last = [], phrase(rng, "greetings") + wish(talk, rng)
    elif history[-1].role is Role.CLIENT:
        last = history.pop().text
    messages = client_prompt(talk.workflow, talk.persona, talk.intention, history)
    return ClientText([*messages, {"role": "assistant", "content": last}] if last else messages)


def manager_text(talk: Talk, rng: random.Random) -> DecisionText:
    """The manager's questions about one exchange, sometimes with another client utterance put in.

    Utterances that belong somewhere else are the hard cases: an answer to another question, a goodbye in the middle.
    """
    exchange = rng.choice(talk.exchanges)
    node, facts = exchange.node, exchange.facts
    client = exchange.client or ""
    answers: dict[str, str] = {"applies": _yes_no(exchange.reply is not None), "ended": _yes_no(exchange.leaves)}
    if exchange.reply is not None:
        answers["reply"] = exchange.reply
    if exchange.aside is not None:
        answers["aside"] = exchange.aside
    draw = rng.random()
    asides = {name: anytime for name, anytime in talk.workflow.anytime.items() if anytime.when}
    if isinstance(node, EndNode):
        answers.pop("applies")
    elif draw < 0.12:
        aside = rng.choice(list(asides))
        client = in_temper(rng, rng.choice(asides[aside].when), talk.temper)
        answers = {"applies": "false", "ended": "false", "aside": aside}
        if any(client.startswith(text) for reply in node.replies.values() for text in reply.examples):
            answers.pop("applies")
    elif draw < 0.24 and "answers" not in node.replies and (other := _answer_to_another(talk, node, rng)):
        client = in_temper(rng, fill(other, facts), talk.temper, 0.2)
        answers = {"applies": "false", "ended": "false"}
    elif draw < 0.36:
        client = in_temper(rng, rng.choice((*PHRASES["byes"], *PHRASES["leaves"])), talk.temper, 0.2)
        answers = {"applies": "false", "ended": "true"}
    elif draw < 0.42:
        client = in_temper(rng, phrase(rng, "puzzled"), talk.temper, 0.2)
        answers = {"ended": "false"} if "answers" in node.replies else {"applies": "false", "ended": "false"}
    elif draw < 0.7 and exchange.slip is None and exchange.reply is not None and exchange.aside is None:
        # Any of the replies as likely as the others, where the dialogues prefer the first.
        reply = rng.choice(list(node.replies))
        client = in_temper(rng, fill(wording(talk, node, reply, False, rng), facts), talk.temper, 0.3)
        answers["reply"] = reply
    answers.setdefault("aside", NO_ASIDE)
    history = [Utterance(Role.AGENT, exchange.said), Utterance(Role.CLIENT, client)]
    questions = _asked(talk.workflow, node, facts, rng)
    known = {name: answers[name] for name in questions if name in answers}
    return DecisionText({"state": manager_state(history), "questions": questions}, known)


def choice_text(talk: Talk, rng: random.Random) -> DecisionText:
    """What one utterance was, asked several times among others: elsewhere such a question is rare."""
    replies = [
        fill(text, talk.intention.facts)
        for node in talk.workflow.nodes.values()
        if isinstance(node, SayNode)
        for reply in node.replies.values()
        for text in reply.examples
    ]
    client = talk.exchanges[0].client or ""
    others = sorted({*replies} - {client})
    questions: dict[str, Any] = {}
    answers: dict[str, str] = {}
    for index in range(6):
        texts = rng.sample(others, rng.randint(min(1, len(others)), min(3, len(others))))
        options = {f"o{number}": text for number, text in enumerate(texts)}
        if rng.random() < 0.75:
            options["it"] = client
        if rng.random() < 0.5 or "it" not in options:
            options[NO_ASIDE] = "something else"
        shuffled = rng.sample(list(options.items()), len(options))
        questions[f"q{index}"] = {
            "type": "choice",
            "instructions": "What does the client want?",
            "criteria": dict(shuffled),
        }
        answers[f"q{index}"] = "it" if "it" in options else NO_ASIDE
    history = [
        Utterance(Role.AGENT, talk.exchanges[0].said),
        Utterance(Role.CLIENT, in_temper(rng, client, talk.temper, 0.3)),
    ]
    return DecisionText({"state": manager_state(history), "questions": questions}, answers)


def _asked(workflow: Workflow, node: SayNode | EndNode, facts: dict[str, str], rng: random.Random) -> dict[str, Any]:
    """All questions of a turn, or one of them; options in any order, so that no letter is favoured."""
    if isinstance(node, EndNode):
        return {"ended": {"type": "noul", "instructions": "Is the conversation over?"}}
    questions = manager_questions(workflow, node, facts)
    for question in questions.values():
        if "criteria" in question:
            options = list(question["criteria"].items())
            rng.shuffle(options)
            question["criteria"] = dict(options)
    if rng.random() < 0.15:
        name = rng.choice(list(questions))
        return {name: questions[name]}
    return questions


def _answer_to_another(talk: Talk, node: SayNode, rng: random.Random) -> str | None:
    """A wording for some other question that can't be taken for an answer to this one."""
    own = {text for reply in node.replies.values() for text in reply.examples}
    first_words = {text.split()[0].strip(",.!") for text in own}
    others = [
        text
        for other in talk.workflow.nodes.values()
        if isinstance(other, SayNode) and other is not node
        for reply in other.replies.values()
        for text in reply.examples
        if text not in own
        and text.split()[0].strip(",.!") not in {*first_words, "Yes", "No", "Sure", "Okay", "I", "That's"}
    ]
    return rng.choice(others) if others else None


def consistency_text(talk: Talk, rng: random.Random) -> DecisionText:
    """Whether utterances fit a character: some of its own, and some of somebody who talks otherwise."""
    of_agent = rng.random() < 0.3
    if of_agent:
        state = consistency_state(talk.workflow.agent.role, talk.workflow.agent.persona)
    else:
        state = consistency_state(talk.persona.character, talk.persona.description)
    clients = [exchange.client for exchange in talk.exchanges if exchange.client]
    agents = [exchange.said for exchange in talk.exchanges if exchange.slip is None]
    questions: dict[str, Any] = {}
    answers: dict[str, str] = {}
    for index in range(rng.choice((1, 2, 4, 6, 8))):
        fits = rng.random() < 0.5
        if of_agent:
            text = rng.choice(agents or [ramble(rng)]) if fits else _unlike_agent(talk, clients, rng)
            fits = fits and bool(agents)
        else:
            text = rng.choice(clients) if fits else _unlike_client(talk, clients, agents, rng)
        questions[f"u{index}"] = consistency_question(text)
        answers[f"u{index}"] = _yes_no(fits)
    return DecisionText({"state": state, "questions": questions}, answers)


def _unlike_agent(talk: Talk, clients: list[str], rng: random.Random) -> str:
    return rng.choice((ramble(rng), wish(talk, rng), rng.choice(clients), f"I want to {goal(rng)}.", stray(rng)))


def _unlike_client(talk: Talk, clients: list[str], agents: list[str], rng: random.Random) -> str:
    """Somebody of another temper, or somebody who speaks as the agent."""
    clashes = TEMPERS[talk.temper].clashes if talk.temper else ()
    manner = rng.choice([name for name in clashes if TEMPERS[name].after] or ["grumpy"])
    if rng.random() < 0.7:
        return in_temper(rng, rng.choice(clients), manner, 1.0)
    return rng.choice((*agents, sentence(rng), f"{made_up(rng)} {made_up(rng)} {thing(rng)}"))


def _yes_no(answer: bool) -> str:
    return "true" if answer else "false"


if __name__ == "__main__":
    shown: set[type] = set()
    for example in examples(int(sys.argv[1]) if len(sys.argv) > 1 else 0):
        if type(example) not in shown:
            print(type(example).__name__, json.dumps(vars(example), indent=1, ensure_ascii=False))
            shown.add(type(example))
        if len(shown) == 3:
            break
