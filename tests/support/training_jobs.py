"""A template of Jobs for the double of Kubernetes, whose pods find the imitated training process, or the real one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml


def write_template(
    folder: Path, artifacts: str, *, python: Path | str = sys.executable, path: Path | None = None, **variables: str
) -> Path:
    """The file. `path`: where the imitated process lies; `variables`: more for the container's environment."""
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
