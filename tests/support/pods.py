"""Pods on a real cluster, under the restricted Pod Security Standard, by kubectl."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# kubectl where the cluster is, if the one on the path is not it.
KUBECTL_VARIABLE = "DUOLOGUE_TEST_KUBECTL"

_START_SECONDS = 120.0
_LOOK_SECONDS = 0.5
_LABELS = ("enforce", "warn")
_RESTRICTED = {
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Pod:
    """One container that is not started again. `warnings`: what the cluster said of it when it was made."""

    namespace: str
    name: str
    warnings: str

    def wait_for_log(self, text: str) -> None:
        """Until the log has `text`."""
        deadline = time.monotonic() + _START_SECONDS
        while text not in self.log:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{text!r} is not in the log of {self.name}:\n{self.log}")
            time.sleep(_LOOK_SECONDS)

    def wait_for_end(self) -> int:
        """The exit status, once there is one."""
        deadline = time.monotonic() + _START_SECONDS
        while (status := self._exit_status()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} has not ended:\n{self.log}")
            time.sleep(_LOOK_SECONDS)
        return status

    def run(self, *command: str) -> str:
        """What a command in the container prints."""
        return _kubectl("exec", "-n", self.namespace, self.name, "--", *command).stdout

    @property
    def log(self) -> str:
        return _kubectl("logs", "-n", self.namespace, self.name, check=False).stdout

    def _exit_status(self) -> int | None:
        pod = json.loads(_kubectl("get", "pod", "-n", self.namespace, self.name, "-o", "json").stdout)
        for container in pod["status"].get("containerStatuses", []):
            if ended := container["state"].get("terminated"):
                return int(ended["exitCode"])
        return None


@dataclass(frozen=True)
class Namespace:
    """Where only restricted pods are let in."""

    name: str

    @contextmanager
    def pod(
        self, image: str, arguments: Sequence[str] = (), command: Sequence[str] = (), **settings: object
    ) -> Iterator[Pod]:
        """A pod of an image that is on the node: its root is read-only but for /tmp and /var/lib/duologue."""
        name = f"pod-{uuid.uuid4().hex[:8]}"
        places = {"tmp": "/tmp", "state": "/var/lib/duologue"}  # noqa: S108
        container: dict[str, Any] = {
            "name": "main",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": list(arguments),
            "env": [{"name": f"DUOLOGUE_{name.upper()}", "value": str(value)} for name, value in settings.items()],
            "securityContext": _RESTRICTED,
            "volumeMounts": [{"name": name, "mountPath": path} for name, path in places.items()],
        }
        if command:
            container["command"] = list(command)
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "fsGroup": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [{"name": name, "emptyDir": {}} for name in places],
            },
        }
        made = _kubectl("create", "-f", "-", given=json.dumps(manifest))
        try:
            yield Pod(self.name, name, made.stderr)
        finally:
            _kubectl("delete", "pod", "-n", self.name, name, "--grace-period=1", "--wait=false")


@contextmanager
def restricted_namespace() -> Iterator[Namespace]:
    name = f"duologue-{uuid.uuid4().hex[:8]}"
    _kubectl("create", "namespace", name)
    _kubectl("label", "namespace", name, *(f"pod-security.kubernetes.io/{label}=restricted" for label in _LABELS))
    try:
        yield Namespace(name)
    finally:
        _kubectl("delete", "namespace", name, "--wait=false")


def _kubectl(*arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*shlex.split(os.environ.get(KUBECTL_VARIABLE, "kubectl")), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {done.stderr}")
    return done
