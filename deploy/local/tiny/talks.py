"""Made-up dialogues along workflows: what the agent should say, what it says instead, and what the client answers.

Most follow made-up businesses (see `businesses`); the others follow the training side of the examples. The held-out
side is never read.

The agent is made to be imperfect: in about a quarter of its turns it does what untuned models do (see `SLIPS`). That
leaves a campaign something to improve.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from businesses import random_workflow
from people import in_temper, random_persona, temper_of
from words import PHRASES, adjective, noun, nouns, phrase, thing, when

from duologue.core.campaign import CampaignSpec
from duologue.core.dialogue import Role
from duologue.core.persona import Persona, load_personas
from duologue.core.prompts import ask_again, say_now
from duologue.core.scores import Utterance
from duologue.core.source import parse_yaml, validate
from duologue.core.workflow import CallNode, EndNode, Intention, SayNode, Workflow, fill
from duologue.core.workflow_file import load_workflow

EXAMPLES = Path(__file__).parents[3] / "examples"
SHARE_OF_EXAMPLE_WORKFLOWS = 0.2
MAX_AGENT_TURNS = 8

# How the agent fails, and how often. Sampling at 0.8 makes rare things rarer: 27% here are about a fifth when it talks.
SLIPS = {"rambles": 0.1, "repeats": 0.05, "is_vague": 0.07, "plays_both": 0.04, "quits": 0.01}


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
        proper = ramble(rng)
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


def ramble(rng: random.Random) -> str:
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
        text = fill(wording(talk, node, exchange.reply, first, rng), facts)
        if after_aside:
            text = f"{rng.choice(('All right. ', 'Okay then. ', 'A pity. ', ''))}{text}"
        exchange.client = in_temper(rng, text, talk.temper)
        if first:
            exchange.client = _greeted(talk, exchange.client, rng)


def _pick_reply(node: SayNode, rng: random.Random) -> str:
    """The reply that leads on is the first one in most files; clients mostly want to get on."""
    names = list(node.replies)
    return rng.choices(names, [len(names) * 2.0, *[1.0] * (len(names) - 1)])[0]


def wording(talk: Talk, node: SayNode, reply: str, first: bool, rng: random.Random) -> str:
    if first and reply == "names_it" and rng.random() < 0.6:
        return wish(talk, rng)
    wordings = node.replies[reply].examples
    return rng.choice(wordings) if wordings else rng.choice(("Okay.", "Let me see.", phrase(rng, "yes")))


def wish(talk: Talk, rng: random.Random) -> str:
    start = rng.choice(("I'd like to", "I want to", "I would like to", "I need to", "I'm calling to", "I hope to"))
    return f"{start} {talk.intention.goal}."


def _greeted(talk: Talk, text: str, rng: random.Random) -> str:
    """The client's first words, with a greeting and sometimes the wish."""
    if rng.random() < 0.3 and talk.intention.goal not in text:
        text = f"{text} {wish(talk, rng)}"
    greeting = phrase(rng, "greetings") if rng.random() < 0.6 else ""
    if greeting.endswith(", ") and not text.startswith("I"):
        greeting = greeting.replace(", ", ". ")
    return greeting + text
