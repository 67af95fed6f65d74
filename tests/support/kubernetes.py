"""A real cluster under a test: whatever KUBECONFIG and kubectl reach, and servers beside it that its pods reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.requirements import missing


def kubectl(*arguments: str | Path, give: str = "", status: int | None = 0, seconds: float = 300) -> str:
    """Run kubectl, which must end with `status`; what it answered. With None it may fail, and errors are given too."""
    done = kubectl_done(*arguments, give=give, seconds=seconds)
    if status is None:
        return done.stdout + done.stderr
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kubectl_done(*arguments: str | Path, give: str = "", seconds: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *map(str, arguments)], input=give, capture_output=True, text=True, timeout=seconds, check=False
    )


def require_cluster() -> str:
    """The address of this machine that the cluster's pods reach."""
    if not os.environ.get("KUBECONFIG"):
        missing("there is no cluster: set KUBECONFIG, and run the tests where its pods reach this machine")
    for program in ("kubectl", "helm"):
        if not shutil.which(program):
            missing(f"a test on a cluster needs {program} on the path")
    if host := os.environ.get("DUOLOGUE_TEST_HOST"):
        return host
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = {address["address"] for node in nodes for address in node["status"]["addresses"]}
    ours = {address.address for interface in psutil.net_if_addrs().values() for address in interface}
    if not addresses & ours:
        missing("no node of the cluster is this machine: set DUOLOGUE_TEST_HOST to an address that its pods reach")
    return sorted(addresses & ours)[0]


@dataclass(frozen=True)
class Namespace:
    """A namespace of a test, under restricted Pod Security."""

    name: str

    def apply(self, *objects: dict[str, Any]) -> None:
        kubectl("apply", "-f", "-", give=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def kubectl(self, *arguments: str, status: int | None = 0, seconds: float = 300) -> str:
        return kubectl("--namespace", self.name, *arguments, status=status, seconds=seconds)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]
        return items

    def secret(self, name: str, **entries: str) -> None:
        metadata = {"name": name, "namespace": self.name}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": entries})

    def logs(self, component: str, container: str = "") -> str:
        chosen = ["--container", container] if container else []
        selector = f"app.kubernetes.io/component={component}"
        return self.kubectl("logs", "--selector", selector, "--tail=200", *chosen, status=None)


def made_namespace(name: str) -> Namespace:
    """Empty, and with the rules of restricted Pod Security: what breaks them is refused, and warned of."""
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait")
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    given = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": levels}}
    kubectl("apply", "-f", "-", give=json.dumps(given))
    return Namespace(name)


def shared_folder(namespace: Namespace, name: str, folder: Path, *, read_only: bool = False) -> None:
    """A claim of that name for a folder of this machine, which is the cluster's node."""
    volume = f"{namespace.name}-{name}"
    kubectl("delete", "persistentvolume", volume, "--ignore-not-found", "--wait")
    mode = "ReadOnlyMany" if read_only else "ReadWriteMany"
    sized = {"storage": "10Gi"}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": sized,
                "accessModes": [mode],
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": {"namespace": namespace.name, "name": name},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace.name},
            "spec": {
                "accessModes": [mode],
                "storageClassName": "",
                "volumeName": volume,
                "resources": {"requests": sized},
            },
        },
    )
