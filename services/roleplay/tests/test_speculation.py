"""Speaking ahead: which reply is guessed, what a right and a wrong guess ask for, and who bears the cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from duologue.core.dialogue import Dialogue, EndReason, Role, Turn
from duologue.core.usage import Account, Part, total
from duologue.core.workflow import Reply, SayNode
from duologue.models import Caller, ChatModel, Completion, ModelUnavailable, Sampling
from duologue_roleplay.speculation import Speculation, likely_edge
from duologue_roleplay.utterance import Ask
from tests.support.desk import DESK
from tests.support.desk_models import AGENT_TOKENS, CLIENT_TOKENS, deciding, obedient, plan, play
from tests.support.model_server import CHAT, ScriptedModelServer

FACTS = {"code": "PK-4471"}
MANAGER_TOKENS = 4 * 30
Guesses = Callable[[], tuple[float, ...]]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


@pytest.fixture
def guesses() -> Guesses:
    """How many guesses were used and wasted since the test began."""

    def counted() -> tuple[float, ...]:
        return tuple(
            REGISTRY.get_sample_value("duologue_speculations_total", {"outcome": outcome}) or 0.0
            for outcome in ("used", "wasted")
        )

    before = counted()
    return lambda: tuple(now - then for now, then in zip(counted(), before, strict=True))


def costs(dialogue: Dialogue) -> list[tuple[int, int]]:
    return [(turn.prompt_tokens, turn.completion_tokens) for turn in dialogue.turns if turn.role is not Role.TOOL]


async def test_a_right_guess_is_used_and_asks_for_nothing_more(server: ScriptedModelServer, guesses: Guesses) -> None:
    plain = await play(server, plan())
    asked = len(server.requests)
    ahead = await play(server, plan(), speculate=True)
    assert guesses() == (2, 0)
    bodies = [request.body for request in server.asked(CHAT)]
    assert bodies[len(bodies) // 2 :] == bodies[: len(bodies) // 2]
    assert len(server.requests) == 2 * asked
    assert costs(ahead) == costs(plain)


async def test_a_wrong_guess_is_borne_by_the_turn_that_was_said_instead(
    server: ScriptedModelServer, guesses: Guesses
) -> None:
    server.decide = deciding(reply="no_code")
    dialogue = await play(server, plan(), speculate=True)
    assert guesses() == (0, 1)
    assert len(server.asked(CHAT)) == 4
    prompt, completion = AGENT_TOKENS
    assert costs(dialogue) == [
        AGENT_TOKENS,
        (CLIENT_TOKENS[0] + MANAGER_TOKENS, CLIENT_TOKENS[1]),
        (2 * prompt, 2 * completion),
    ]
    wasted = dialogue.usage[Account(Part.AGENT, "scripted", wasted=True)]
    assert (wasted.prompt_tokens, wasted.completion_tokens) == AGENT_TOKENS
    assert total(dialogue.usage.values()).prompt_tokens == dialogue.prompt_tokens


async def test_a_guess_that_no_turn_followed_is_borne_by_the_last(
    server: ScriptedModelServer, guesses: Guesses
) -> None:
    server.decide = deciding(ended=0.99)
    dialogue = await play(server, plan(), speculate=True)
    assert dialogue.end_reason is EndReason.CLIENT_LEFT
    assert guesses() == (0, 1)
    paid = (CLIENT_TOKENS[0] + MANAGER_TOKENS + AGENT_TOKENS[0], CLIENT_TOKENS[1] + AGENT_TOKENS[1])
    assert costs(dialogue) == [AGENT_TOKENS, paid]


class ChatStandIn(ChatModel):
    """Stands in for a chat model: `answer` is what happens to every request."""

    def __init__(self, answer: Callable[[], Awaitable[Completion]]) -> None:
        self._answer = answer

    async def complete(self, *_: Any, **__: Any) -> Completion:
        return await self._answer()


async def fails() -> Completion:
    raise ModelUnavailable("down")


def ask(seed: int) -> Ask:
    return Ask(Role.AGENT, "m", [], Sampling(), seed, Caller())


async def test_the_failure_of_a_wrong_guess_is_nobody_s() -> None:
    turns = [Turn(Role.AGENT, "Hello.", prompt_tokens=3)]
    async with Speculation() as ahead:
        ahead.begin(ChatStandIn(fails), ask(1))
        assert await ahead.claim(ask(2), 0) is None
        await ahead.settle(turns)
    assert turns == [Turn(Role.AGENT, "Hello.", prompt_tokens=3)]


async def test_the_failure_of_a_right_guess_is_the_dialogue_s() -> None:
    async with Speculation() as ahead:
        ahead.begin(ChatStandIn(fails), ask(1))
        with pytest.raises(ModelUnavailable, match="down"):
            await ahead.claim(ask(1), 0)


async def test_a_dialogue_that_breaks_off_leaves_no_request_under_way() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs() -> Completion:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with Speculation() as ahead:
        ahead.begin(ChatStandIn(hangs), ask(1))
        await begun.wait()
    assert cancelled.is_set()


@pytest.mark.parametrize(
    ("reply", "node", "edge"),
    [
        ("It is PK-4471, I think.", "greet", "gives_code"),
        ("Sorry, I have no code.", "greet", "no_code"),
        ("Yes, there is another one.", "tell", "another"),
        ("Hm?", "tell", "nothing"),  # close to none: the default
        ("Hm?", "greet", "gives_code"),  # close to none, no default: the first
    ],
)
def test_the_closest_wording_is_guessed(reply: str, node: str, edge: str) -> None:
    asked = DESK.nodes[node]
    assert isinstance(asked, SayNode)
    assert likely_edge(reply, asked, FACTS) == edge


def test_of_one_reply_nothing_is_guessed() -> None:
    only = SayNode(say="Well?", replies={"any": Reply(to="bye", examples=("Fine.",))})
    assert likely_edge("Hm?", only, {}) == "any"
