"""A dialogue that broke off goes on from its last good turn when it is played again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from duologue.core.dialogue import Dialogue
from duologue.models import ChatModel, DecisionModel, ModelServer, ModelUnavailable
from duologue_roleplay import unfinished
from duologue_roleplay.self_talk import SelfTalk
from tests.support.desk_models import deciding, obedient, plan, play
from tests.support.model_server import Answered, ScriptedModelServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


@pytest.fixture
async def models(server: ScriptedModelServer) -> AsyncIterator[ModelServer]:
    async with ModelServer(server.endpoint(patience_seconds=0)) as models:
        yield models


def engine(models: ModelServer, *, speculate: bool = False) -> SelfTalk:
    return SelfTalk(ChatModel(models), ChatModel(models), DecisionModel(models), speculate=speculate)


def without_seconds(dialogue: Dialogue) -> Dialogue:
    turns = tuple(replace(turn, seconds=0.0) for turn in dialogue.turns)
    usage = {account: replace(used, seconds=0.0) for account, used in dialogue.usage.items()}
    return replace(dialogue, turns=turns, usage=usage)


async def break_off(self_talk: SelfTalk, server: ScriptedModelServer, after: int, **changes: str) -> None:
    """Let the server fail once, after so many of the dialogue's requests."""
    say, decide = server.say, server.decide
    left = after

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            server.faults = [Answered(500, "broken")]

    def saying(request: object) -> object:
        count()
        return say(request)  # type: ignore[arg-type]

    def deciding_too(*asked: object) -> object:
        if asked[1] == "ended":  # once for all questions of a request
            count()
        return decide(*asked)  # type: ignore[arg-type]

    server.say, server.decide = saying, deciding_too  # type: ignore[assignment]
    with pytest.raises(ModelUnavailable, match="broken"):
        await self_talk.play(plan(**changes))
    server.say, server.decide = say, decide
    server.faults.clear()


@pytest.mark.parametrize("after", range(1, 7))
async def test_it_goes_on_where_it_broke_off_and_is_the_same_dialogue(
    server: ScriptedModelServer, models: ModelServer, after: int
) -> None:
    expected = await play(server, plan())
    asked = len(server.requests)
    self_talk = engine(models)
    await break_off(self_talk, server, after)
    assert without_seconds(await self_talk.play(plan())) == without_seconds(expected)
    assert len(server.requests) == asked + asked + 1


async def test_it_does_so_where_the_agent_is_asked_ahead_too(server: ScriptedModelServer, models: ModelServer) -> None:
    expected = await play(server, plan())
    self_talk = engine(models, speculate=True)
    await break_off(self_talk, server, 3)
    found = await self_talk.play(plan())
    assert [turn.text for turn in found.turns] == [turn.text for turn in expected.turns]


async def test_another_plan_under_the_same_id_begins_anew(server: ScriptedModelServer, models: ModelServer) -> None:
    self_talk = engine(models)
    await break_off(self_talk, server, 4)
    broken = len(server.requests)
    await self_talk.play(plan(seed=8))
    anew = len(server.requests) - broken
    await self_talk.play(plan(seed=8))
    assert len(server.requests) - broken == 2 * anew


async def test_only_so_many_are_kept(
    server: ScriptedModelServer, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "_MOST", 2)
    self_talk = engine(models)
    ids = [f"5d0f6d6e-3f43-5a55-8d7e-0f2f4a0f5a1{number}" for number in range(3)]
    for one in ids:
        await break_off(self_talk, server, 4, dialogue_id=one)
    asked = []
    for one in ids:
        before = len(server.requests)
        await self_talk.play(plan(dialogue_id=one))
        asked.append(len(server.requests) - before)
    assert asked[0] == asked[1] + 4 == asked[2] + 4
