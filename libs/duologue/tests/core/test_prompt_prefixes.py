"""A prompt as a chat template renders it begins with the prompt before it: what the two share, a prefix cache has."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, Template, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from duologue.core.dialogue import Role
from duologue.core.persona import Persona
from duologue.core.prompts import Message, agent_prompt, ask_again, client_prompt, say_now
from duologue.core.scores import Utterance
from duologue.core.workflow import SayNode, fill
from duologue.core.workflow_file import load_workflow

ROOT = Path(__file__).parents[4]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TINY = (ROOT / "deploy/local/tiny/model/chat_template.jinja").read_text()
WORKFLOW = load_workflow((ROOT / "examples/workflows/inn_booking.yaml").read_text())
INTENTION = WORKFLOW.intentions[0]
PERSONA = Persona(id="teacher", character="a retired teacher", description="I like things explained.")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
EXCHANGES = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)
INSTRUCTIONS = st.sampled_from([say_now("Which day?"), ask_again("Which day?")])
each_template = pytest.mark.parametrize("template", [TINY, CHATML], ids=["tiny", "chatml"])


class _Generation(Extension):
    """The tag by which transformers finds what the assistant said; it writes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


ENVIRONMENT = Environment(extensions=[_Generation], trim_blocks=True, lstrip_blocks=True)  # noqa: S701


def render(template: str, messages: list[Message]) -> str:
    """With the beginning of the answer, as a server reads it."""
    return compiled(template).render(messages=messages, add_generation_prompt=True)


@cache
def compiled(template: str) -> Template:
    return ENVIRONMENT.from_string(template)


def shared(one: str, other: str) -> str:
    """What both begin with."""
    return one[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))]


def history_of(exchanges: list[tuple[str, str]]) -> list[Utterance]:
    """The agent speaks first."""
    return [
        Utterance(role, text)
        for exchange in exchanges
        for role, text in zip((Role.AGENT, Role.CLIENT), exchange, strict=True)
    ]


@each_template
@given(exchanges=EXCHANGES, more=EXCHANGES, instruction=INSTRUCTIONS, following=INSTRUCTIONS)
def test_the_agents_next_prompt_begins_with_the_last_one_up_to_its_instruction(
    template: str, exchanges: list[tuple[str, str]], more: list[tuple[str, str]], instruction: str, following: str
) -> None:
    history = history_of(exchanges)
    untold, told = (render(template, agent_prompt(WORKFLOW, history, said)) for said in ("", instruction))
    up_to_instruction = shared(untold, told)
    assert up_to_instruction.endswith(exchanges[-1][1])
    after = render(template, agent_prompt(WORKFLOW, history_of([*exchanges, *more]), following))
    assert after.startswith(up_to_instruction)


@each_template
@given(exchanges=EXCHANGES, more=EXCHANGES, question=TEXTS)
def test_the_clients_next_prompt_begins_with_the_whole_of_the_last_one(
    template: str, exchanges: list[tuple[str, str]], more: list[tuple[str, str]], question: str
) -> None:
    asked = [*history_of(exchanges), Utterance(Role.AGENT, question)]
    before = render(template, client_prompt(WORKFLOW, PERSONA, INTENTION, asked))
    replied = [*asked, Utterance(Role.CLIENT, "Yes."), *history_of(more)[:-1]]
    after = render(template, client_prompt(WORKFLOW, PERSONA, INTENTION, replied))
    assert after.startswith(before)


@each_template
def test_in_a_dialogue_of_sixteen_turns_most_of_what_is_sent_was_sent_before(template: str) -> None:
    said = [
        (fill(node.say, INTENTION.facts), fill(next(iter(node.replies.values())).examples[0], INTENTION.facts))
        for node in WORKFLOW.nodes.values()
        if isinstance(node, SayNode) and next(iter(node.replies.values())).examples
    ]
    exchanges = (said * 8)[:8]
    agent = [
        render(template, agent_prompt(WORKFLOW, history_of(exchanges[:place]), say_now(exchanges[place][0])))
        for place in range(8)
    ]
    client = [
        render(
            template,
            client_prompt(
                WORKFLOW,
                PERSONA,
                INTENTION,
                [*history_of(exchanges[:place]), Utterance(Role.AGENT, exchanges[place][0])],
            ),
        )
        for place in range(8)
    ]
    assert shared_share(agent) > 0.6
    assert shared_share(client) > 0.75


def shared_share(prompts: list[str]) -> float:
    """Share of the characters of all prompts that stand in the one before."""
    return sum(len(shared(*pair)) for pair in pairwise(prompts)) / sum(map(len, prompts))
