"""Training learns the very prompts that the agent was given in self-talk."""

from __future__ import annotations

from typing import Any

import pytest

from duologue.core.dialogue import Dialogue, Preset, Role
from duologue_filtering.rows import dataset_row
from tests.support.desk import DESK, scores
from tests.support.desk_models import as_in_the_paper, deciding, is_agent, obedient, plan, play
from tests.support.model_server import CHAT, ScriptedModelServer


def learnt(dialogue: Dialogue) -> list[tuple[list[dict[str, str]], str]]:
    """Prompts and completions, as training reads them."""
    row = dataset_row(dialogue, scores(), DESK)
    assert row["messages"][0]["content"] == row["examples"][0]["prompt"][0]["content"]
    return [(example["prompt"], example["completion"]) for example in row["examples"]]


@pytest.mark.parametrize(
    ("changes", "script"),
    [
        ({}, {}),
        ({"intention": "lost"}, {}),
        ({}, {"applies": [0.1, 0.9], "aside": "person"}),
        ({}, {"reply": ["gives_code", "another", "no_code"]}),
        ({"structured": False, "max_turns": 3}, {}),
    ],
)
async def test_training_learns_the_prompts_that_the_agent_was_given(
    changes: dict[str, Any], script: dict[str, Any]
) -> None:
    async with ScriptedModelServer(obedient, deciding(**script)) as server:
        dialogue = await play(server, plan(**changes))
        given = [request.messages for request in server.asked(CHAT) if is_agent(request)]
    assert learnt(dialogue) == list(zip(given, dialogue.said_by(Role.AGENT), strict=True))


async def test_training_learns_the_prompts_of_the_preset_by_which_a_dialogue_was_played() -> None:
    async with ScriptedModelServer(as_in_the_paper(choices=["none", "1", "2"])) as server:
        dialogue = await play(server, plan(preset=Preset.ULMER2024))
        given = [request.messages for request in server.asked(CHAT) if is_agent(request)]
    assert learnt(dialogue) == list(zip(given, dialogue.said_by(Role.AGENT), strict=True))
