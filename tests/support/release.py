"""A release of the chart on a real cluster, with real servers beside it, as a team would have it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.brokers.cluster import KafkaCluster, free_ports
from tests.support.eventually import soon
from tests.support.helm import CHART, helm
from tests.support.kubernetes import Namespace, require_cluster, shared_folder
from tests.support.local_stack import COMMAND
from tests.support.postgres import PostgresServer, connect
from tests.support.requirements import ROOT, require_ml
from tests.support.transformers_server import transformers_server

TINY = ROOT / "deploy/local/tiny/model"
SERVICES = ("campaign", "roleplay", "scoring", "filtering", "training")
_INSTALL_SECONDS = 300
# Has Python 3.11 and nothing else: what a training needs is mounted, for an image of torch has six gigabytes.
_PYTHON = os.environ.get("DUOLOGUE_TEST_PYTHON_IMAGE", "localhost/python:3.11")


@dataclass
class Beside:
    """Servers that a release is pointed at. The artifacts lie where pods see them too: adapters are served by path."""

    kafka: KafkaCluster
    postgres: PostgresServer
    models_url: str
    artifacts: Path


@contextmanager
def servers_beside(folder: Path) -> Iterator[Beside]:
    host = require_cluster()
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    artifacts.chmod(0o777)
    with ExitStack() as stack:
        kafka = KafkaCluster.start(folder / "kafka", host=host)
        stack.callback(kafka.close)
        postgres = PostgresServer.start({"max_connections": "100"}, host=host)
        stack.callback(postgres.close)
        (folder / "models").mkdir()
        models_url = stack.enter_context(transformers_server(folder / "models", host))
        yield Beside(kafka, postgres, models_url, artifacts)


@dataclass
class Release:
    """One release. Its databases are schemas of one server; trainings run with the test's own environment of torch."""

    name: str
    namespace: Namespace
    beside: Beside
    values_file: Path

    @classmethod
    def prepared(cls, name: str, namespace: Namespace, beside: Beside, folder: Path) -> Release:
        for service in ("campaign", "filtering"):
            with connect(beside.postgres.url) as connection:
                connection.execute(f"CREATE SCHEMA {name}_{service}")
            url = f"{beside.postgres.url}?options=-csearch_path%3D{name}_{service}"
            namespace.secret(f"{name}-{service}-db", uri=url)
        shared_folder(namespace, f"{name}-artifacts", beside.artifacts)
        shared_folder(namespace, f"{name}-python", ROOT, read_only=True)
        release = cls(name, namespace, beside, folder / f"{name}.yaml")
        release.values_file.write_text(yaml.safe_dump(release.values()))
        return release

    def values(self) -> dict[str, Any]:
        model = {"url": self.beside.models_url, "model": str(TINY)}
        small = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
        services: dict[str, Any] = {
            service: {"replicas": 1, "resources": small, "graceSeconds": 30} for service in SERVICES
        }
        services["training"] |= {"baseModel": str(TINY), "job": self._training_job()}
        services["roleplay"]["settings"] = {"concurrency": 4}
        return {
            "image": {"registry": os.environ.get("DUOLOGUE_TEST_REGISTRY", "localhost"), "pullPolicy": "IfNotPresent"},
            "kafka": {"brokers": self.beside.kafka.bootstrap},
            "database": {
                service: {"existingSecret": f"{self.name}-{service}-db"} for service in ("campaign", "filtering")
            },
            "artifacts": {"url": str(self.beside.artifacts), "existingClaim": f"{self.name}-artifacts"},
            "models": {"client": model, "agent": model},
            "services": services,
            "networkPolicy": {"postgresqlPorts": [self.beside.postgres.port]},
        }

    def _training_job(self) -> dict[str, Any]:
        packages = require_ml().parents[1] / "lib/python3.11/site-packages"
        sources = [str(ROOT / "libs/duologue/src"), str(ROOT / "services/training/src")]
        return {
            "image": _PYTHON,
            "command": ["python3", "-m", "duologue_training.pod"],
            "gpus": 0,
            "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}},
            "env": [
                {"name": "PYTHONPATH", "value": os.pathsep.join([str(packages), *sources])},
                {"name": "HF_HUB_OFFLINE", "value": "1"},
            ],
            "extraVolumes": [{"name": "python", "persistentVolumeClaim": {"claimName": f"{self.name}-python"}}],
            "extraVolumeMounts": [{"name": "python", "mountPath": str(ROOT), "readOnly": True}],
        }

    def arguments(self) -> tuple[str | Path, ...]:
        """What `helm install` and `helm upgrade` are given."""
        return CHART, "--values", self.values_file

    def helm(self, verb: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return helm(verb, self.name, *arguments, "--namespace", self.namespace.name)

    def install(self, *arguments: str) -> str:
        """What helm said, warnings of the API server among it."""
        waits = ("--install", "--wait", "--timeout", f"{_INSTALL_SECONDS}s")
        done = self.helm("upgrade", *self.arguments(), *waits, *arguments)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.told()}"
        return done.stdout + done.stderr

    def told(self) -> str:
        """What the pods say, for the reader of a failed test."""
        pods = self.namespace.kubectl("get", "pods", "-o", "wide", status=None)
        events = self.namespace.kubectl("get", "events", "--sort-by=.lastTimestamp", status=None)[-4000:]
        logs = "\n".join(self.namespace.logs(component)[-2000:] for component in (*SERVICES, "prepare"))
        return f"{pods}\n{events}\n{logs}"

    @contextmanager
    def reached(self) -> Iterator[Mapping[str, str]]:
        """The environment of a command that reaches the control plane, as NOTES.txt says."""
        forward, environment = soon(self._forwarded, "the control plane answers", 180)
        try:
            yield environment
        finally:
            forward.terminate()
            forward.wait()

    def _forwarded(self) -> tuple[subprocess.Popen[bytes], Mapping[str, str]] | None:
        """A forwarded port that answers. It is one pod's, and answers no more once that is gone."""
        (port,) = free_ports(1)
        target = f"svc/{self.fullname}-campaign"
        forward = subprocess.Popen(
            ["kubectl", "--namespace", self.namespace.name, "port-forward", target, f"{port}:7401"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert forward.stdout is not None
        environment = {**os.environ, "DUOLOGUE_ADDRESS": f"127.0.0.1:{port}"}
        if forward.stdout.readline() and duologue(environment, "campaign", "list", "--json").returncode == 0:
            return forward, environment
        forward.terminate()
        forward.wait()
        return None

    @property
    def fullname(self) -> str:
        return self.name if "duologue" in self.name else f"{self.name}-duologue"


def duologue(
    environment: Mapping[str, str], *arguments: str | Path, seconds: float = 600
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
