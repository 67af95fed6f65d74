"""Processes are killed in the middle of a campaign: they come back, nothing is lost, nothing comes twice."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.eventually import eventually
from tests.support.local_stack import LocalStack, is_over, phase, write_spec

# Of twelve dialogues so many are scored, at least, when the first of the processes is killed, and the second.
KILLED_AT = (2, 6)


def _in_the_middle(process: str, scored: int, campaign: Any) -> bool:
    if process == "training":
        return phase(campaign) == "training"
    return campaign["history"][-1]["scored"] >= scored


@pytest.mark.parametrize(
    "processes",
    [("scoring", "campaign"), ("roleplay", "filtering"), ("model-client", "model-agent"), ("training",)],
    ids=" ".join,
)
async def test_killed_processes_come_back_and_no_dialogue_is_lost_or_doubled(
    stack: LocalStack, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    pids = {process: stack.pid(process) for process in processes}
    campaign_id = stack.create(write_spec(tmp_path, f"kill-{processes[0]}", evaluation={"dialogues": 2}))
    for process, scored in zip(processes, KILLED_AT, strict=False):
        stack.wait_for(campaign_id, partial(_in_the_middle, process, scored))
        os.kill(pids[process], signal.SIGKILL)

    campaign = stack.wait_for(campaign_id, is_over)
    assert campaign["state"] == "CAMPAIGN_STATE_COMPLETED", campaign["reason"]

    async def are_back() -> bool:
        return all(stack.pid(process) not in (0, pid) for process, pid in pids.items())

    await eventually(are_back, "the processes are back")

    records = stack.json("dialogue", "list", campaign_id)["dialogues"]
    places = [(record["dialogue"]["split"], record["dialogue"]["index"]) for record in records]
    expected = [("SPLIT_EVALUATION", index) for index in range(4)] + [("SPLIT_TRAINING", index) for index in range(12)]
    assert sorted(places) == sorted(expected)

    (round_,) = campaign["history"]
    sealed = stack.json("dataset", "show", round_["dataset_id"])["manifest"]["dialogue_ids"]
    kept = [record["dialogue"]["id"] for record in records if record["decision"] == "kept"]
    assert len(sealed) == 6
    assert sorted(sealed) == sorted(kept)
    assert stack.json("dlq", "list")["dead_letters"] == []


def test_what_a_killed_supervisor_leaves_behind_is_found_and_started_anew(stack: LocalStack) -> None:
    old = stack.pid("roleplay")
    supervisor = psutil.Process(old).parent()
    assert supervisor is not None
    supervisor.kill()
    assert "7 processes go on without it" in stack.command("status", status=1).stdout
    assert "Stopped what a killed supervisor had left" in stack.command("up", "--port-base", stack.port_base).stdout
    assert not psutil.pid_exists(old)
    assert stack.pid("roleplay") != old
