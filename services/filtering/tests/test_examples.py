"""Training learns the very prompts that the agent was given in self-talk."""

from __future__ import annotations

from typing import Any

import pytest

from duologue.core.dialogue import Role
from duologue_filtering.rows import dataset_row
from tests.support.desk import DESK, scores
from tests.support.desk_models import deciding, is_agent, obedient, plan, play
from tests.support.model_server import CHAT, ScriptedModelServer


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
    row = dataset_row(dialogue, scores(), DESK)
    assert [example["prompt"] for example in row["examples"]] == given
    assert [example["completion"] for example in row["examples"]] == dialogue.said_by(Role.AGENT)
