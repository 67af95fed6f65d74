"""What tests of trainings as Jobs ask for, and a template for the double of Kubernetes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from duologue.contracts.v1 import events_pb2
from duologue.store import ArtifactStore
from tests.support.desk import CAMPAIGN_ID, dialogue
from tests.support.sealed import sealed


def desk_order(
    artifacts: ArtifactStore, base_model: str = "models/base", epochs: int = 1
) -> events_pb2.TrainingRequested:
    """A training on one dataset of two dialogues: six agent turns."""
    return events_pb2.TrainingRequested(
        training_id="desk-r1",
        campaign_id=CAMPAIGN_ID,
        round=1,
        adapter_id="desk-r1",
        datasets=[sealed(artifacts, "desk-r1", dialogue("a0"), dialogue("a1"))],
        base_model=base_model,
        rank=8,
        alpha=16,
        learning_rate=0.02,
        weight_decay=0.01,
        batch_size=2,
        epochs=epochs,
        warmup_steps=2,
        max_tokens=512,
        seed=3,
    )


def write_template(
    folder: Path, artifacts: str, *, python: Path | str = sys.executable, path: Path | None = None, **variables: str
) -> Path:
    """The file; its pods are processes. `path`: where the imitated one lies; `variables`: more for its environment."""
    environment = {"DUOLOGUE_ARTIFACTS__URL": artifacts, "DUOLOGUE_WORK": str(folder / "pod"), **variables}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    container: dict[str, Any] = {
        "name": "training",
        "image": "any",
        "command": [str(python), "-m", "duologue_training.pod"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": {"app.kubernetes.io/name": "duologue"}},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    return file
