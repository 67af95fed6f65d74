"""The whole loop, as a user runs it: real services, real models, one machine."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from duologue.cli.local.layout import Ports
from tests.support.local_stack import EXAMPLES, LocalStack, is_over, write_spec

SERVICES = ("campaign", "roleplay", "scoring", "filtering", "training")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spec(tmp_path_factory.mktemp("loop"), "loop")


@pytest.fixture(scope="module")
def run(stack: LocalStack, spec: Path) -> Any:
    """A campaign that was run to its end, as JSON."""
    done = stack.command("run", spec)
    assert "dialogues" in done.stdout
    return stack.campaign("loop")


def test_a_campaign_ends_with_a_dataset_an_adapter_and_a_verdict(run: Any) -> None:
    (round_,) = run["history"]
    assert run["state"] == "CAMPAIGN_STATE_COMPLETED"
    assert (round_["candidates"], round_["kept"], round_["dropped"]) == (12, 6, 6)
    assert round_["evaluation"]["reason"]
    intervals = [item["gain"] for item in round_["evaluation"]["comparisons"]]
    assert intervals
    assert all(gain["low"] <= gain["value"] <= gain["high"] for gain in intervals)


def test_every_dialogue_is_there_once_with_its_decision_and_reason(stack: LocalStack, run: Any) -> None:
    records = stack.json("dialogue", "list", run["id"])["dialogues"]
    ids = [record["dialogue"]["id"] for record in records]
    assert len(ids) == len(set(ids)) == 12 + 2 * 3
    training = [record for record in records if record["dialogue"]["split"] == "SPLIT_TRAINING"]
    assert sorted(int(record["dialogue"]["index"]) for record in training) == list(range(12))
    assert {record["decision"] for record in training} == {"kept", "dropped"}
    assert all(record["reason"] for record in training if record["decision"] == "dropped")


def test_a_dialogue_shows_its_turns_decisions_and_provenance(stack: LocalStack, run: Any) -> None:
    dialogue_id = stack.json("dialogue", "list", run["id"], "--limit", 1)["dialogues"][0]["dialogue"]["id"]
    record = stack.json("dialogue", "show", dialogue_id)
    turns = record["dialogue"]["turns"]
    assert turns[0]["role"] == "ROLE_AGENT"
    assert turns[0]["instruction"].startswith("Say now:")
    decisions = [item for turn in turns for item in turn["decisions"]]
    assert decisions
    assert all(sum(item["probabilities"].values()) == pytest.approx(1.0, abs=1e-6) for item in decisions)
    provenance = record["dialogue"]["provenance"]
    assert all(provenance[name] for name in ("workflow_version", "persona_version", "client_model", "agent_model"))
    assert record["decision"] in stack.command("dialogue", "show", dialogue_id).stdout


def test_the_new_adapter_is_what_played_its_side_of_the_evaluation(stack: LocalStack, run: Any) -> None:
    records = stack.json("dialogue", "list", run["id"], "--split", "evaluation")["dialogues"]
    adapters = [record["dialogue"]["provenance"]["adapter_id"] for record in records]
    assert adapters.count(run["history"][0]["adapter_id"]) == 3
    models = {record["dialogue"]["provenance"]["agent_model"] for record in records}
    assert len(models) == 2


def test_a_dataset_exports_in_every_format_and_leads_back_to_its_dialogues(
    stack: LocalStack, run: Any, tmp_path: Path
) -> None:
    dataset = run["history"][0]["dataset_id"]
    manifest = stack.json("dataset", "show", dataset)["manifest"]
    kept = stack.json("dialogue", "list", run["id"], "--decision", "kept")["dialogues"]
    assert sorted(manifest["dialogue_ids"]) == sorted(record["dialogue"]["id"] for record in kept)
    for name in ("parquet", "trl", "openai", "sharegpt"):
        stack.command("dataset", "export", dataset, "--format", name, "-o", tmp_path / name)
    assert sorted(pq.read_table(tmp_path / "parquet")["dialogue_id"].to_pylist()) == sorted(manifest["dialogue_ids"])
    for name, field in (("trl", "prompt"), ("openai", "messages"), ("sharegpt", "conversations")):
        rows = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        assert len(rows) >= len(manifest["dialogue_ids"])
        assert all(row[field] for row in rows)


def test_a_promoted_adapter_plays_the_next_campaign_and_a_rollback_undoes_it(
    stack: LocalStack, run: Any, tmp_path: Path
) -> None:
    adapter = run["history"][0]["adapter_id"]
    stack.command("adapter", "promote", adapter)
    assert stack.json("adapter", "show", adapter)["state"] == "released"
    spec = write_spec(tmp_path, "loop", dialogues=2, training={"min_kept": 100})
    second = stack.create(spec)
    stack.wait_for(second, is_over)
    played = stack.json("dialogue", "list", second)["dialogues"]
    assert {record["dialogue"]["provenance"]["adapter_id"] for record in played} == {adapter}
    assert "base model" in stack.command("adapter", "rollback", "loop").stdout
    assert stack.json("adapter", "show", adapter)["state"] == "retired"


def test_the_manager_s_questions_are_written_to_be_labelled(stack: LocalStack, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    stack.command("dialogue", "questions", run["id"], "-o", file)
    training = stack.json("dialogue", "list", run["id"], "--split", "training")["dialogues"]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["dialogue"] for line in lines} == {record["dialogue"]["id"] for record in training}
    assert all("Client: " in line["state"] and set(line["answers"].values()) == {None} for line in lines)


def test_the_manager_is_less_sure_of_itself_once_it_is_calibrated(stack: LocalStack, tmp_path: Path) -> None:
    calibration, picture = tmp_path / "calibration.json", tmp_path / "reliability.png"
    labelled = EXAMPLES / "calibration/questions.jsonl"
    report = stack.json("calibrate", labelled, "-o", calibration, "--plot", picture)
    for found in report["questions"]:
        assert found["temperature"] > 1
        assert found["after"]["ece"]["value"] < found["before"]["ece"]["value"]
    assert len(json.loads(calibration.read_text())["temperatures"]) == 2
    assert picture.stat().st_size > 10_000


def test_running_the_same_file_again_starts_a_new_campaign(stack: LocalStack, run: Any, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, "again", dialogues=2, training={"min_kept": 100})
    stack.command("run", spec)
    stack.command("run", spec)
    campaigns = [c for c in stack.json("campaign", "list")["campaigns"] if c["name"] == "again"]
    assert [campaign["state"] for campaign in campaigns] == ["CAMPAIGN_STATE_COMPLETED"] * 2


def test_pause_stops_new_dialogues_and_resume_goes_on(stack: LocalStack, tmp_path: Path) -> None:
    campaign_id = stack.create(write_spec(tmp_path, "pausing", dialogues=400, concurrency=2))
    stack.command("campaign", "pause", campaign_id)
    out_at_most = stack.campaign(campaign_id)["history"][0]["scored"] + 2
    assert stack.campaign(campaign_id)["state"] == "CAMPAIGN_STATE_PAUSED"
    other = stack.create(write_spec(tmp_path, "meanwhile", dialogues=6, training={"min_kept": 100}))
    stack.wait_for(other, is_over)
    assert stack.campaign(campaign_id)["history"][0]["scored"] <= out_at_most
    stack.command("campaign", "resume", campaign_id)
    stack.wait_for(campaign_id, lambda campaign: campaign["history"][0]["scored"] > out_at_most)
    stack.command("campaign", "cancel", campaign_id)


def test_a_cancelled_campaign_stays_cancelled(stack: LocalStack, tmp_path: Path) -> None:
    campaign_id = stack.create(write_spec(tmp_path, "cancelled", dialogues=50))
    stack.command("campaign", "cancel", campaign_id)
    assert stack.campaign(campaign_id)["state"] == "CAMPAIGN_STATE_CANCELLED"
    assert "cancelled" in stack.command("campaign", "resume", campaign_id, status=1).stderr


def test_every_service_answers_metrics(stack: LocalStack, run: Any) -> None:
    for number, service in enumerate(SERVICES, 1):
        with urllib.request.urlopen(f"http://127.0.0.1:{stack.port_base + 10 + number}/metrics") as response:
            assert "process_cpu_seconds_total" in response.read().decode(), service


def test_a_second_up_says_what_runs(stack: LocalStack) -> None:
    done = stack.command("up", "--models", "tiny")
    assert "Already up" in done.stdout
    assert all(service in done.stdout for service in SERVICES)


def test_the_doctor_finds_nothing_wrong(stack: LocalStack) -> None:
    assert all(finding["ok"] for finding in stack.json("doctor")["findings"])


def test_the_doctor_asks_services_elsewhere_and_names_the_one_that_is_not_there(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = Ports(stack.port_base)
    monkeypatch.setenv("DUOLOGUE_ADDRESS", f"127.0.0.1:{ports.campaign}")
    here = [f"--service={name}=127.0.0.1:{ports.grpc(name)}" for name in SERVICES if name != "campaign"]
    found = stack.json("doctor", *here)["findings"]
    assert all(finding["ok"] for finding in found)
    assert {finding["subject"] for finding in found} >= {*SERVICES, "client model", "agent model", "manager model"}
    told = stack.json("doctor", *here, "--service=scoring=127.0.0.1:1", status=1)["findings"]
    assert [finding["subject"] for finding in told if not finding["ok"]] == ["scoring"]


def test_bad_input_creates_nothing(stack: LocalStack, tmp_path: Path) -> None:
    before = len(stack.json("campaign", "list")["campaigns"])
    spec = write_spec(tmp_path, "bad", dialogs=5)
    done = stack.command("run", spec, status=2)
    assert f"{spec}:" in done.stderr
    assert "dialogs is not a known field" in done.stderr
    assert 'Did you mean "dialogues"?' in done.stderr
    assert len(stack.json("campaign", "list")["campaigns"]) == before


def test_ports_in_use_are_named_with_the_flag(stack: LocalStack, tmp_path: Path) -> None:
    other = LocalStack(tmp_path / "other", stack.port_base)
    done = other.command("up", "--models", "tiny", "--port-base", stack.port_base, status=1)
    assert f"port {stack.port_base + 1} (campaign) is in use" in done.stderr
    assert "--port-base" in done.stderr


def test_an_unknown_model_is_said_by_up(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "home", 20_500)
    done = stack.command("up", "--models", tmp_path / "nothing", status=2)
    assert "is not a folder" in done.stderr
    done = stack.command("up", "--models", "http://127.0.0.1:9", status=1)
    assert "127.0.0.1:9" in done.stderr
