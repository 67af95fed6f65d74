"""Helm: the one on the path, or one that Go builds once beside the other caches."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.requirements import ROOT, missing

CHART = ROOT / "helm/duologue"
VERSION = "v4.3.1"
_BUILT = ROOT / ".cache/helm"
_BUILD_SECONDS = 900


@cache
def require_helm() -> Path:
    found = shutil.which("helm")
    if found:
        return Path(found)
    helm = _BUILT / "helm"
    if not helm.exists() and not _build():
        missing("there is no helm: install version 3.18 or newer, or Go to build it with")
    return helm


def _build() -> bool:
    if not shutil.which("go"):
        return False
    command = ["go", "install", f"helm.sh/helm/v4/cmd/helm@{VERSION}"]
    environment = {**os.environ, "GOBIN": str(_BUILT)}
    return subprocess.run(command, env=environment, timeout=_BUILD_SECONDS, check=False).returncode == 0


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([require_helm(), *arguments], capture_output=True, text=True, check=False)


def rendered(values: Path, *arguments: str, release: str = "duo") -> list[dict[str, Any]]:
    """What the chart makes of these values, in the order of the templates."""
    done = helm("template", release, CHART, "--namespace", "team", "--values", values, *arguments)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]
