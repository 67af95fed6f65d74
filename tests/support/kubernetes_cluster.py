"""The real Kubernetes beside the repository, whose one node is this machine; it is no part of the product."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.requirements import ROOT

KUBE = ROOT.parent / "shared/tools/kube/kube"
ROLE = ROOT / "docs/operations/training-role.yaml"


def require_kubernetes() -> None:
    """Skips also where CI=true: the repository can't install one."""
    if not KUBE.is_file():
        pytest.skip("there is no Kubernetes beside the repository, in ../shared/tools/kube")
    try:
        done = subprocess.run(
            [KUBE, "kubectl", "get", "--raw", "/readyz"], capture_output=True, timeout=20, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the Kubernetes in ../shared/tools/kube does not answer")
    if done.returncode != 0:
        pytest.skip("the Kubernetes in ../shared/tools/kube is not up: run ../shared/tools/kube/up")


class Namespace:
    """A namespace of a test, with an account for the training service that has the documented rights."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [KUBE, "kubectl", "-n", self.name, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def all(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json"))["items"]
        return found

    def write_kubeconfig(self, path: Path) -> None:
        """For the training service's account."""
        self.kubectl("apply", "-f", "-", given=ROLE.read_text())
        config = json.loads(self.kubectl("config", "view", "--raw", "-o", "json"))
        config["users"] = [
            {"name": "training", "user": {"token": self.kubectl("create", "token", "duologue-training")}}
        ]
        config["contexts"][0]["context"] |= {"user": "training", "namespace": self.name}
        path.write_text(yaml.safe_dump(config))


@contextmanager
def namespace() -> Iterator[Namespace]:
    made = Namespace(f"jobs-dev-{uuid.uuid4().hex[:6]}")
    made.kubectl("create", "namespace", made.name)
    try:
        yield made
    finally:
        made.kubectl("delete", "namespace", made.name, "--timeout=90s")
