"""`duologue dialogue questions`: what the manager was asked, as lines for people to answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from duologue.contracts.v1 import campaign_pb2_grpc
from duologue.core.labelled import Labelled, questions_to_label
from tests.support.campaign_world import World
from tests.support.command import Done, duologue_beside
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.desk import DESK, dialogue
from tests.support.grpc_server import serving


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ControlPlane]:
    """A control plane with a campaign that is over: six training dialogues at the desk, others in a held-out shop."""
    async with control_plane(tmp_path) as plane:
        await World(plane, await plane.create()).run()
        register = campaign_pb2_grpc.add_CampaignServiceServicer_to_server
        async with serving(register, plane.rpc) as address:
            monkeypatch.setenv("DUOLOGUE_ADDRESS", address)
            monkeypatch.setenv("DUOLOGUE_ARTIFACTS__URL", str(tmp_path / "artifacts"))
            yield plane


async def write(file: Path, *options: object) -> Done:
    return await duologue_beside("dialogue", "questions", "desk", "-o", file, *options)


def read(file: Path) -> list[Labelled]:
    return [Labelled.model_validate(json.loads(line)) for line in file.read_text().splitlines()]


async def test_every_reply_of_the_training_dialogues_is_a_line_with_open_answers(
    plane: ControlPlane, tmp_path: Path
) -> None:
    file = tmp_path / "questions.jsonl"
    done = await write(file)
    assert (done.status, done.err) == (0, "")
    assert f"Wrote {file}: questions about 12 replies in 6 dialogues" in done.out
    lines = read(file)
    assert len({line.dialogue for line in lines}) == 6
    expected = [(line.state, line.questions, line.answers) for line in questions_to_label(dialogue(), DESK)]
    assert [(line.state, line.questions, line.answers) for line in lines] == expected * 6


async def test_the_same_dialogues_are_drawn_each_time(plane: ControlPlane, tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    for file in (one, other):
        assert (await write(file, "--dialogues", 2)).status == 0
    assert len(read(one)) == 4
    assert one.read_bytes() == other.read_bytes()


async def test_labels_that_are_there_are_not_overwritten_without_being_told(
    plane: ControlPlane, tmp_path: Path
) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text("labels")
    done = await write(file)
    assert (done.status, file.read_text()) == (2, "labels")
    assert f"{file} is there already." in done.err
    assert (await write(file, "--force")).status == 0
    assert len(read(file)) == 12
