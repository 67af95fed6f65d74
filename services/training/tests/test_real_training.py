"""A training for real: a random tiny Llama learns the dialogues of the desk, in the environment with torch."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from duologue.contracts.v1 import events_pb2
from duologue.store import ArtifactStore
from duologue_training.folder import TrainingFolder
from duologue_training.plan import Example, TrainingPlan
from tests.support.desk import dialogue
from tests.support.requirements import ROOT, require_ml
from tests.support.sealed import sealed

SECONDS = 240

pytestmark = pytest.mark.timeout(SECONDS + 30)


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    """What came of a training; see tests/support/real_training.py."""
    python = require_ml()
    artifacts = ArtifactStore(str(folder / "artifacts"))
    order = folder / "order"
    order.write_bytes(an_order(artifacts, folder / "model").SerializeToString())
    done = subprocess.run(
        [python, "-m", "tests.support.real_training", order, folder / "artifacts", folder / "model"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert document["error"] == ""
    return document


def an_order(artifacts: ArtifactStore, model: Path) -> events_pb2.TrainingRequested:
    return events_pb2.TrainingRequested(
        training_id="desk-r1",
        campaign_id="0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d",
        round=1,
        adapter_id="desk-r1",
        datasets=[sealed(artifacts, "desk-r1", dialogue("a0"), dialogue("a1"))],
        base_model=str(model),
        rank=8,
        alpha=16,
        learning_rate=0.02,
        weight_decay=0.01,
        batch_size=2,
        epochs=8,
        warmup_steps=2,
        max_tokens=512,
        seed=3,
    )


def test_the_training_goes_through_its_stages_and_learns(seen: dict[str, Any]) -> None:
    assert list(dict.fromkeys(seen["stages"])) == ["loading", "training", "merging", "done"]
    assert seen["steps"] == 6 * 8 / 2
    assert seen["last_loss"] < seen["first_loss"] - 0.1


def test_the_adapter_is_stored_with_its_card_fingerprint_and_merged_weights(seen: dict[str, Any]) -> None:
    assert set(seen["files"]) >= {
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "fingerprint.json",
        "merged/config.json",
        "merged/generation_config.json",
        "merged/model.safetensors",
        "merged/tokenizer.json",
        "training.json",
    }
    assert seen["served_model"].endswith("adapters/desk-r1/merged")
    assert not [file for file in seen["files"] if file.startswith("checkpoints")]


def test_the_loss_is_on_the_completions_only(seen: dict[str, Any]) -> None:
    assert len(seen["learnt"]) == 6
    for learnt, completion in zip(seen["learnt"], seen["completions"], strict=True):
        assert learnt.removesuffix("\n").removesuffix("<|im_end|>") == completion


def test_of_an_example_that_is_too_long_the_front_is_cut_off_and_the_completion_stays(seen: dict[str, Any]) -> None:
    for learnt, completion in zip(seen["learnt_of_long_ones"], seen["completions"], strict=True):
        text = learnt.removesuffix("\n").removesuffix("<|im_end|>")
        assert text
        assert completion.endswith(text)


def test_the_fingerprint_tells_adapter_and_base_apart(seen: dict[str, Any]) -> None:
    assert seen["telling"] >= 1


def test_the_merged_model_loads_and_answers_as_the_adapter_did(seen: dict[str, Any]) -> None:
    assert len(seen["served"]) == 6
    assert all(seen["served"])


def test_a_base_model_that_can_not_be_used_is_refused_with_its_name(seen: dict[str, Any]) -> None:
    assert seen["no_model"].startswith("base model '/nowhere/at/all' can't be loaded")
    assert seen["no_template"].endswith("has no chat template")


def test_a_device_that_is_not_there_is_refused_instead_of_training_for_days_on_another(seen: dict[str, Any]) -> None:
    assert "and this process sees none" in seen["no_device"]


def test_a_hub_that_can_not_be_asked_is_no_reason_to_refuse_a_base_model(seen: dict[str, Any]) -> None:
    assert seen["no_network"].startswith("OSError: ")


def test_the_record_has_the_hashes_of_the_base_model_s_config_and_weights(seen: dict[str, Any], folder: Path) -> None:
    record = json.loads((folder / "artifacts/adapters/desk-r1/training.json").read_text())
    names = ("config.json", "model.safetensors")
    hashes = {name: hashlib.sha256((folder / "model" / name).read_bytes()).hexdigest() for name in names}
    assert record["result"]["base_files"] == hashes


@pytest.fixture
def parent(folder: Path, seen: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A process that has just started a long training."""
    plan = TrainingPlan(
        training_id="long",
        base_model=str(folder / "model"),
        examples=[Example(prompt=[{"role": "user", "content": "Hello."}], completion="Hello.")],
        rank=2,
        alpha=2,
        learning_rate=1e-4,
        weight_decay=0.0,
        batch_size=1,
        epochs=100_000,
        warmup_steps=0,
        max_tokens=64,
        seed=0,
        merge=False,
        threads=1,
        device="cpu",
    )
    work = TrainingFolder(folder / "long")
    work.begin(plan)
    process = subprocess.Popen(
        [require_ml(), "-m", "tests.support.training_parent", work.path],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


def test_the_training_process_ends_when_its_service_is_killed(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    assert any(line == "training\n" for line in parent.stdout)
    (child,) = psutil.Process(parent.pid).children()
    assert child.is_running()
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs([child], timeout=30)
    assert (gone, alive) == ([child], [])
