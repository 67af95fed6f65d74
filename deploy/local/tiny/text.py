"""The training text: dialogues along workflows, as the three parts that the model plays would see them.

Every prompt is made by `duologue.core.prompts`, so that what is trained is what is asked later. Most dialogues follow
made-up businesses (see `businesses`); the others follow the training side of the examples. The held-out side is never
read.

The agent is trained to be imperfect: in about a quarter of its turns it does what untuned models do (see `SLIPS`). That
leaves a campaign something to improve.

Usage: `python text.py [SEED]` prints one example of each kind.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from businesses import goal, random_workflow, stray
from people import TEMPERS, in_temper, random_persona, temper_of
from words import PHRASES, adjective, made_up, noun, nouns, phrase, sentence, thing, when

from duologue.core.campaign import CampaignSpec
from duologue.core.dialogue import Role
from duologue.core.persona import Persona, load_personas
from duologue.core.prompts import (
    NO_ASIDE,
    Message,
    agent_prompt,
    ask_again,
    client_prompt,
    consistency_question,
    consistency_state,
    manager_questions,
    manager_state,
    say_now,
)
from duologue.core.scores import Utterance
from duologue.core.source import parse_yaml, validate
from duologue.core.workflow import CallNode, EndNode, Intention, SayNode, Workflow, fill
from duologue.core.workflow_file import load_workflow

EXAMPLES = Path(__file__).parents[3] / "examples"
SHARE_OF_EXAMPLE_WORKFLOWS = 0.2
MAX_AGENT_TURNS = 8

# How the agent fails, and how often. Sampling at 0.8 makes rare things rarer: 27% here are about a fifth when it talks.
SLIPS = {"rambles": 0.1, "repeats": 0.05, "is_vague": 0.07, "plays_both": 0.04, "quits": 0.01}


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
    exchange.client = fill(_wording(talk, node, reply, False, rng), talk.intention.facts)
    talk.exchanges.append(exchange)
    return talk


# ---- talks -----------------------------------------------------------------------------------------------------------


@dataclass
class Exchange:
    """One turn of the agent and the client's answer. `said` is what the history keeps of what the agent wrote."""

    node: SayNode | EndNode
    facts: dict[str, str]
    instruction: str
    written: str
    said: str
    slip: str | None
    client: str | None = None
    reply: str | None = None
    aside: str | None = None
    leaves: bool = False


@dataclass
class Talk:
    workflow: Workflow
    persona: Persona
    temper: str | None
    intention: Intention
    exchanges: list[Exchange] = field(default_factory=list)

    def history(self, until: int) -> list[Utterance]:
        """What has been said in the first `until` exchanges."""
        turns = []
        for exchange in self.exchanges[:until]:
            turns.append(Utterance(Role.AGENT, exchange.said))
            if exchange.client is not None:
                turns.append(Utterance(Role.CLIENT, exchange.client))
        return turns


@dataclass(frozen=True)
class Sources:
    workflows: tuple[Workflow, ...]
    personas: tuple[Persona, ...]

    @classmethod
    def load(cls) -> Sources:
        """The training side of the quickstart campaign; the files of its held-out side are not opened."""
        file = EXAMPLES / "campaigns" / "quickstart.yaml"
        spec = validate(CampaignSpec, parse_yaml(file.read_text(encoding="utf-8"), file.name))
        read = {
            name: (file.parent / name).read_text(encoding="utf-8")
            for name in (*spec.workflows.training, *spec.personas.training)
        }
        return cls(
            tuple(load_workflow(read[name], name) for name in spec.workflows.training),
            tuple(persona for name in spec.personas.training for persona in load_personas(read[name], name)),
        )

    def talk(self, rng: random.Random) -> Talk:
        workflow = rng.choice(self.workflows) if rng.random() < SHARE_OF_EXAMPLE_WORKFLOWS else random_workflow(rng)
        persona, temper = random_persona(rng)
        if rng.random() < SHARE_OF_EXAMPLE_WORKFLOWS:
            persona = rng.choice(self.personas)
            temper = temper_of(persona)
        talk = Talk(workflow, persona, temper, rng.choice(workflow.intentions))
        _converse(talk, rng)
        return talk


def _converse(talk: Talk, rng: random.Random) -> None:
    """Walk the workflow from its start, with slips of the agent and whims of the client."""
    workflow, facts = talk.workflow, dict(talk.intention.facts)
    at, again, anytime = _spoken(talk, workflow.start, facts, rng), False, None
    for _ in range(MAX_AGENT_TURNS):
        node = workflow.nodes[at]
        assert not isinstance(node, CallNode)  # noqa: S101 - `_spoken` passes calls through
        text = fill(anytime.say if anytime else node.text, facts)
        asks_again = again and anytime is None
        instruction = ask_again(text) if asks_again else say_now(text)
        written, said, slip = _agent_turn(talk, text, asks_again, rng)
        exchange = Exchange(node, dict(facts), instruction, written, said, slip)
        talk.exchanges.append(exchange)
        if isinstance(node, EndNode) and exchange.slip is None:
            exchange.client, exchange.leaves = in_temper(rng, phrase(rng, "byes"), talk.temper, 0.2), True
            return
        _client_turn(talk, exchange, anytime is not None, rng)
        if exchange.leaves:
            return
        again, anytime = exchange.reply is None, workflow.anytime.get(exchange.aside or "")
        if exchange.reply is not None and isinstance(node, SayNode):
            at = _spoken(talk, node.replies[exchange.reply].to, facts, rng)


def _spoken(talk: Talk, at: str, facts: dict[str, str], rng: random.Random) -> str:
    """The next spoken node from `at`; calls on the way are made, and what they return becomes facts."""
    while isinstance(node := talk.workflow.nodes[at], CallNode):
        outcomes = list(node.outcomes.values())
        (outcome,) = rng.choices(outcomes, [outcome.weight for outcome in outcomes])
        facts.update(outcome.returns)
        at = outcome.to
    return at


def _agent_turn(talk: Talk, text: str, asks_again: bool, rng: random.Random) -> tuple[str, str, str | None]:
    """What the agent writes when it should say `text`, what is kept of that, and its slip."""
    (slip,) = rng.choices([*SLIPS, None], [*SLIPS.values(), 1 - sum(SLIPS.values())])
    earlier = [exchange.said for exchange in talk.exchanges if exchange.slip is None]
    if slip == "repeats" and not earlier:
        slip = "rambles"
    proper = f"{phrase(rng, 'acknowledges')} {text}" if asks_again else _in_own_words(rng, text)
    if slip == "plays_both":  # the engine cuts it off at "Client:", and what is left is as it should be
        return f"{proper} Client: {phrase(rng, 'yes')} Agent: {phrase(rng, 'vague')}", proper, None
    if slip == "rambles":
        proper = _ramble(rng)
    elif slip == "repeats":
        proper = rng.choice(earlier)
    elif slip == "is_vague":
        proper = " ".join(rng.sample(PHRASES["vague"], rng.choice((1, 1, 2))))
    elif slip == "quits":
        proper = f"{phrase(rng, 'leads')} Goodbye!"
    return proper, proper, slip


def _in_own_words(rng: random.Random, text: str) -> str:
    draw = rng.random()
    if draw < 0.16:
        return f"{phrase(rng, 'leads')} {text}"
    if draw < 0.22:
        return text.replace(", please", "").replace("Please ", "Could you please ", 1)
    if draw < 0.26 and text.endswith("?"):
        return f"{text[:-1]}, please?" if "please" not in text else text
    return text


def _ramble(rng: random.Random) -> str:
    start = rng.choice(
        ("You know, ", "By the way, ", "Speaking of that, ", "Actually, ", "Well, you see, ", "To be honest, ")
    )
    drift = rng.choice(
        (
            f"I had {nouns(rng)} for lunch, and they were {adjective(rng)}.",
            f"my {noun(rng)} is {adjective(rng)} again.",
            f"many people ask about {nouns(rng)} {when(rng)}.",
            f"we used to have a {thing(rng)}, but the {noun(rng)} was {adjective(rng)}.",
            f"{nouns(rng)} are a wonderful thing.",
            f"the {noun(rng)} and the {noun(rng)} are not the same.",
            f"there are {adjective(rng)} {nouns(rng)} everywhere {when(rng)}.",
        )
    )
    return start + drift + (f" And {nouns(rng)} too." if rng.random() < 0.3 else "")


def _client_turn(talk: Talk, exchange: Exchange, after_aside: bool, rng: random.Random) -> None:
    """Fill in what the client says, and what it means for the workflow."""
    node, facts = exchange.node, exchange.facts
    first = len(talk.exchanges) == 1
    if exchange.slip == "quits":
        exchange.client, exchange.leaves = phrase(rng, "byes"), True
    elif exchange.slip == "repeats" and len(talk.exchanges) > 1 and talk.exchanges[-2].client:
        exchange.client = f"{rng.choice(('I told you already. ', 'As I said: ', ''))}{talk.exchanges[-2].client}"
    elif exchange.slip is not None or isinstance(node, EndNode):
        exchange.client = in_temper(rng, phrase(rng, "puzzled"), talk.temper)
    elif (draw := rng.random()) < 0.015:
        exchange.client, exchange.leaves = phrase(rng, "leaves"), True
    elif draw < 0.05:
        asides = {name: anytime for name, anytime in talk.workflow.anytime.items() if anytime.when}
        exchange.aside = rng.choice(list(asides))
        exchange.client = in_temper(rng, rng.choice(asides[exchange.aside].when), talk.temper)
    elif draw < 0.06 or (after_aside and draw < 0.4):
        exchange.client = in_temper(rng, rng.choice(PHRASES["puzzled"][:3]), talk.temper)
    else:
        exchange.reply = _pick_reply(node, rng)
        text = fill(_wording(talk, node, exchange.reply, first, rng), facts)
        if after_aside:
            text = f"{rng.choice(('All right. ', 'Okay then. ', 'A pity. ', ''))}{text}"
        exchange.client = in_temper(rng, text, talk.temper)
        if first:
            exchange.client = _greeted(talk, exchange.client, rng)


def _pick_reply(node: SayNode, rng: random.Random) -> str:
    """The reply that leads on is the first one in most files; clients mostly want to get on."""
    names = list(node.replies)
    return rng.choices(names, [len(names) * 2.0, *[1.0] * (len(names) - 1)])[0]


def _wording(talk: Talk, node: SayNode, reply: str, first: bool, rng: random.Random) -> str:
    if first and reply == "names_it" and rng.random() < 0.6:
        return _wish(talk, rng)
    wordings = node.replies[reply].examples
    return rng.choice(wordings) if wordings else rng.choice(("Okay.", "Let me see.", phrase(rng, "yes")))


def _wish(talk: Talk, rng: random.Random) -> str:
    start = rng.choice(("I'd like to", "I want to", "I would like to", "I need to", "I'm calling to", "I hope to"))
    return f"{start} {talk.intention.goal}."


def _greeted(talk: Talk, text: str, rng: random.Random) -> str:
    """The client's first words, with a greeting and sometimes the wish."""
    if rng.random() < 0.3 and talk.intention.goal not in text:
        text = f"{text} {_wish(talk, rng)}"
    greeting = phrase(rng, "greetings") if rng.random() < 0.6 else ""
    if greeting.endswith(", ") and not text.startswith("I"):
        greeting = greeting.replace(", ", ". ")
    return greeting + text


# ---- what each part sees ---------------------------------------------------------------------------------------------


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
        history, last = [], phrase(rng, "greetings") + _wish(talk, rng)
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
        client = in_temper(rng, fill(_wording(talk, node, reply, False, rng), facts), talk.temper, 0.3)
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
            text = rng.choice(agents or [_ramble(rng)]) if fits else _unlike_agent(talk, clients, rng)
            fits = fits and bool(agents)
        else:
            text = rng.choice(clients) if fits else _unlike_client(talk, clients, agents, rng)
        questions[f"u{index}"] = consistency_question(text)
        answers[f"u{index}"] = _yes_no(fits)
    return DecisionText({"state": state, "questions": questions}, answers)


def _unlike_agent(talk: Talk, clients: list[str], rng: random.Random) -> str:
    return rng.choice((_ramble(rng), _wish(talk, rng), rng.choice(clients), f"I want to {goal(rng)}.", stray(rng)))


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
