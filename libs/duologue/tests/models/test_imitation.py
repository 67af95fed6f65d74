"""The imitated model server answers as the real one did when it was recorded: transformers serve 5.23, a tiny Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.model_server import ModelRequest, Said, ScriptedModelServer

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[4] / "tests/support/transformers_serve.jsonl").read_text().splitlines()
]


def shape(value: Any) -> Any:
    """The names and types of an answer, without its figures."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


def say(_: ModelRequest) -> Said:
    return Said("Hello.", is_cut=True, prompt_tokens=18)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["name"])
async def test_the_imitation_answers_as_the_real_server_did(recorded: dict[str, Any]) -> None:
    async with (
        ScriptedModelServer(say, decide=lambda *_: 0.6, models=("recorded",)) as server,
        aiohttp.ClientSession() as session,
        session.post(server.url + recorded["path"], data=recorded["request"]) as response,
    ):
        assert response.status == recorded["status"]
        assert response.content_type == recorded["content_type"].partition(";")[0]
        answer = await (response.json() if isinstance(recorded["answer"], dict) else response.text())
    if response.status == 200:
        assert shape(answer) == shape(recorded["answer"])
        return
    real = recorded["answer"]
    if isinstance(real, dict) and isinstance(real["detail"], list):  # what was wrong, and where, in the same words
        keys = ("type", "loc", "msg")
        assert [[item[key] for key in keys] for item in answer["detail"]] == [
            [item[key] for key in keys] for item in real["detail"]
        ]
    else:
        assert answer == real
