"""Real workflows: three tasks of the STAR data set, imported and run."""

from __future__ import annotations

from pathlib import Path

from tests.support.local_stack import LocalStack, is_over, write_spec
from tests.support.requirements import require_star


def test_a_campaign_over_three_imported_star_tasks_runs(stack: LocalStack, tmp_path: Path) -> None:
    star = require_star()
    for task in ("bank_fraud_report", "trip_directions", "weather"):
        stack.command(
            "workflow", "import", star / "tasks.json", "--from", "star", "--task", task, "-o", tmp_path / f"{task}.yaml"
        )
        stack.command("workflow", "check", tmp_path / f"{task}.yaml")
    spec = write_spec(
        tmp_path,
        "star",
        workflows={"training": ["bank_fraud_report.yaml", "trip_directions.yaml"], "held_out": ["weather.yaml"]},
        dialogues=8,
        role_play={},  # the ways through these are longer than four turns
    )
    campaign = stack.wait_for(stack.create(spec), is_over)
    (round_,) = campaign["history"]
    assert campaign["state"] == "CAMPAIGN_STATE_COMPLETED"
    assert (round_["candidates"], round_["kept"]) == (8, 4)
    assert round_["evaluation"]["reason"]
    played = stack.json("dialogue", "list", campaign["id"], "--split", "evaluation")["dialogues"]
    assert {record["dialogue"]["provenance"]["workflow_id"] for record in played} == {"weather"}
