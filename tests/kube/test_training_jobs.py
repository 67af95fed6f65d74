"""Trainings as Jobs on a real Kubernetes: pods, rights, quotas and a scheduler that has no GPU.

The training service is a process of this machine in the slim environment, with the rights of the documented Role. Its
pods are of a bare Python image that finds the repository and its environments by hostPath.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from duologue.bus import Bus, open_bus
from duologue.bus.codec import decode, encode
from duologue.contracts.topics import CAMPAIGN_CANCELLED, TRAINING_COMPLETED, TRAINING_REQUESTED
from duologue.contracts.v1 import events_pb2
from duologue.store import ArtifactStore
from tests.support.desk import CAMPAIGN_ID
from tests.support.eventually import eventually
from tests.support.kubernetes_cluster import KUBE, Namespace, namespace, require_kubernetes
from tests.support.requirements import ROOT, require_ml
from tests.support.training_jobs import desk_order
from tests.support.training_process import install

PATIENCE_SECONDS = 300.0
IMAGE = "localhost/python:3.11"
USER = 10001

pytestmark = pytest.mark.timeout(2 * PATIENCE_SECONDS)


@dataclass
class Place:
    """A bus, an artifact store and a namespace."""

    folder: Path
    bus: Bus
    namespace: Namespace
    environment: Path = ROOT / ".venv"
    logs: int = 0

    @property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "artifacts"))

    def template(self, path: Path | None = None, **container: Any) -> Path:
        """`path`: where the imitated training process lies."""
        sources = [path, ROOT / "libs/duologue/src", ROOT / "services/training/src"]
        packages = self.environment / "lib/python3.11/site-packages"
        environment = {
            "DUOLOGUE_ARTIFACTS__URL": str(self.folder / "artifacts"),
            "DUOLOGUE_WORK": "/work/training",
            "HOME": "/work",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": ":".join(str(one) for one in (*sources, packages) if one),
        }
        trains = {
            "name": "training",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-m", "duologue_training.pod"],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "work", "mountPath": "/work"},
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                {"name": "repository", "mountPath": str(ROOT), "readOnly": True},
                {"name": "folder", "mountPath": str(self.folder)},
            ],
            **container,
        }
        volumes = [
            {"name": "work", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "repository", "hostPath": {"path": str(ROOT)}},
            {"name": "folder", "hostPath": {"path": str(self.folder)}},
        ]
        pod = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [trains],
            "volumes": volumes,
        }
        file = self.folder / "job.yaml"
        file.write_text(yaml.safe_dump({"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": pod}}}))
        return file

    @asynccontextmanager
    async def service(self, template: Path, **settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
        """The training service, where the cluster can be reached; its log is the last of `service-*.log`."""
        self.logs += 1
        chosen = {
            "bus__url": f"sqlite:///{self.folder / 'bus.db'}",
            "artifacts__url": self.folder / "artifacts",
            "job__template": template,
            "job__poll_seconds": 0.5,
            "drain_seconds": 0,
            **settings,
        }
        variables = {f"DUOLOGUE_{name.upper()}": str(value) for name, value in chosen.items()}
        self.namespace.write_kubeconfig(self.folder / "kubeconfig")
        with self.log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                KUBE,
                "env",
                f"KUBECONFIG={self.folder / 'kubeconfig'}",
                sys.executable,
                "-m",
                "duologue_training",
                cwd=self.folder,
                env={**os.environ, **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    @property
    def log_file(self) -> Path:
        return self.folder / f"service-{self.logs}.log"

    async def says(self, words: str) -> None:
        """Waits until the service's log has the words."""

        async def said() -> bool:
            return words in self.log_file.read_text()

        await eventually(said, f"the service says {words!r} in {self.log_file}", PATIENCE_SECONDS)

    async def request(self, base_model: str = "models/base", epochs: int = 1) -> None:
        order = desk_order(self.artifacts, base_model, epochs)
        await self.bus.publish([encode(TRAINING_REQUESTED, order, "test")])

    async def completed(self) -> events_pb2.TrainingCompleted:
        async def told() -> list[events_pb2.TrainingCompleted]:
            read = self.bus.read(TRAINING_COMPLETED.name)
            return [decode(events_pb2.TrainingCompleted, delivery.record) async for delivery in read]

        (done,) = await eventually(told, f"the training is told of; see {self.log_file}", PATIENCE_SECONDS)
        return done

    async def runs(self, jobs: int = 1) -> None:
        """Waits until the pod of that many Jobs has been seen at work."""

        async def claimed() -> bool:
            phases = [pod["status"]["phase"] for pod in await asyncio.to_thread(self.namespace.all, "pods")]
            return len(await asyncio.to_thread(self.namespace.all, "jobs")) == jobs and "Running" in phases

        await eventually(claimed, "a pod is at work", PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def own_namespace() -> Iterator[Namespace]:
    require_kubernetes()
    with namespace() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One that the pods' user may enter, with a store that it may write to."""
    tmp_path.chmod(0o755)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts").chmod(0o777)
    return tmp_path


@pytest.fixture
async def place(folder: Path, own_namespace: Namespace) -> AsyncIterator[Place]:
    bus = await open_bus(f"sqlite:///{folder / 'bus.db'}")
    yield Place(folder, bus, own_namespace)
    await bus.close()
    own_namespace.kubectl("delete", "jobs,resourcequotas", "--all", "--cascade=foreground", "--wait")


def imitation(folder: Path, *attempts: str) -> Path:
    """The imitated training process, where any user may write down that it was called."""
    path = install(folder, *attempts)
    (path / "duologue_training").chmod(0o777)
    return path


async def test_a_model_is_trained_in_a_pod_and_a_service_that_is_killed_meanwhile_finds_its_job_again(
    place: Place,
) -> None:
    python = require_ml()
    place.environment = python.parents[1]
    model = place.folder / "model"
    make = await asyncio.create_subprocess_exec(python, ROOT / "tests/support/tiny_llama.py", model)
    assert await make.wait() == 0
    (model / "model.safetensors").chmod(0o644)  # which is written for its owner only
    template = place.template()
    await place.request(base_model=str(model), epochs=8)
    async with place.service(template):
        await place.runs()
    (job,) = place.namespace.all("jobs")
    async with place.service(template):
        done = await place.completed()
    assert done.error == ""
    assert done.last_loss < done.first_loss
    assert [one["metadata"]["name"] for one in place.namespace.all("jobs")] == [job["metadata"]["name"]]
    (pod,) = place.namespace.all("pods")
    assert pod["status"]["phase"] == "Succeeded"
    for name in ("adapter/adapter_model.safetensors", "merged/model.safetensors", "fingerprint.json", "README.md"):
        assert place.artifacts.exists(f"adapters/desk-r1/{name}")


async def test_a_pod_that_is_deleted_is_followed_by_another_attempt(place: Place) -> None:
    template = place.template(imitation(place.folder, "waits", "trains"))
    await place.request()
    async with place.service(template):
        await place.runs()
        (pod,) = place.namespace.all("pods")
        place.namespace.kubectl("delete", "pod", pod["metadata"]["name"])
        assert (await place.completed()).error == ""
    assert len(place.namespace.all("jobs")) == 2


async def test_a_plan_that_can_never_work_is_told_with_its_reason_and_not_tried_again(place: Place) -> None:
    template = place.template(imitation(place.folder, "unusable"))
    await place.request()
    async with place.service(template):
        error = (await place.completed()).error
    assert "ended with status 3" in error
    assert "base model 'x' can't be loaded" in error
    assert len(place.namespace.all("jobs")) == 1


async def test_a_cancelled_campaign_leaves_no_job_behind(place: Place) -> None:
    template = place.template(imitation(place.folder, "waits"))
    await place.request()
    async with place.service(template):
        await place.runs()
        event = events_pb2.CampaignCancelled(campaign_id=CAMPAIGN_ID, cancelled_at="2026-01-01T00:00:00Z")
        await place.bus.publish([encode(CAMPAIGN_CANCELLED, event, "test")])
        assert (await place.completed()).error == "the campaign was cancelled"
    assert place.namespace.all("jobs") == place.namespace.all("pods") == []


async def test_without_a_gpu_it_says_so_and_gives_up_at_the_deadline(place: Place) -> None:
    template = place.template(resources={"limits": {"nvidia.com/gpu": "1"}})
    await place.request()
    async with place.service(template, job__waiting_seconds=8):
        await place.says("Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu")
        error = (await place.completed()).error
    assert "could not begin in 8 s: Unschedulable: 0/1 nodes are available" in error

    async def is_gone() -> bool:
        return await asyncio.to_thread(place.namespace.all, "jobs") == []

    await eventually(is_gone, "the Job is gone")


async def test_an_image_that_is_not_there_is_told_in_kubernetes_words(place: Place) -> None:
    template = place.template(image="localhost/nothing:1", imagePullPolicy="Never")
    await place.request()
    async with place.service(template):
        await place.says("ErrImageNeverPull")


@pytest.mark.parametrize(
    ("limited", "said"), [("count/jobs.batch", "Forbidden: jobs.batch"), ("pods", "FailedCreate: ")]
)
async def test_a_quota_is_told_of_and_the_training_goes_on_once_there_is_room(
    place: Place, limited: str, said: str
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    place.namespace.apply({**quota, "spec": {"hard": {limited: "0"}}})
    template = place.template(imitation(place.folder, "trains"))
    await place.request()
    async with place.service(template):
        await place.says(said)
        await place.says("exceeded quota: none")
        place.namespace.kubectl("delete", "resourcequota", "none")
        assert (await place.completed()).error == ""


async def test_a_template_that_kubernetes_does_not_take_ends_the_service_at_its_start(place: Place) -> None:
    template = place.template(resources={"limits": {"cpu": "many"}})
    async with place.service(template) as service:
        assert await service.wait() == 2
    assert f"setting job.template: {template}: Kubernetes does not take it" in place.log_file.read_text()
