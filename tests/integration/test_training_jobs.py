"""The training service as a process of the slim environment, its trainings as Jobs, the cluster an imitation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from duologue.bus import Bus, open_bus
from duologue.bus.codec import decode, encode
from duologue.contracts.topics import CAMPAIGN_CANCELLED, TRAINING_COMPLETED, TRAINING_REQUESTED
from duologue.contracts.v1 import events_pb2, training_pb2, training_pb2_grpc
from duologue.store import ArtifactStore
from tests.support.desk import CAMPAIGN_ID
from tests.support.eventually import eventually
from tests.support.kubernetes_api_double import KubernetesApiDouble
from tests.support.requirements import ROOT, require_ml
from tests.support.service_process import ServiceProcess, service_process
from tests.support.training_jobs import desk_order, write_template
from tests.support.training_process import calls, install

PATIENCE_SECONDS = 60.0
REAL_SECONDS = 240.0


@dataclass
class Place:
    """A bus, an artifact store and a cluster."""

    folder: Path
    bus: Bus
    cluster: KubernetesApiDouble
    monkeypatch: pytest.MonkeyPatch

    def template(self, *attempts: str) -> Path:
        return write_template(self.folder, str(self.folder / "artifacts"), path=install(self.folder, *attempts))

    def service(self, template: Path) -> AbstractAsyncContextManager[ServiceProcess]:
        self.monkeypatch.setenv("KUBECONFIG", str(self.cluster.kubeconfig))
        return service_process(
            "duologue_training", self.folder, job__template=template, job__poll_seconds=0.1, drain_seconds=0
        )

    async def request(self) -> None:
        order = desk_order(ArtifactStore(str(self.folder / "artifacts")))
        await self.bus.publish([encode(TRAINING_REQUESTED, order, "test")])

    async def completed(self) -> list[events_pb2.TrainingCompleted]:
        read = self.bus.read(TRAINING_COMPLETED.name)
        return [decode(events_pb2.TrainingCompleted, delivery.record) async for delivery in read]

    async def is_at_work(self) -> bool:
        return len(calls(self.folder / "imitation")) == 1


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    bus = await open_bus(f"sqlite:///{tmp_path / 'bus.db'}")
    async with KubernetesApiDouble(tmp_path) as cluster:
        yield Place(tmp_path, bus, cluster, monkeypatch)
    await bus.close()


async def stages(service: ServiceProcess) -> list[str]:
    async with service.channel() as channel:
        stub = training_pb2_grpc.TrainingServiceStub(channel)
        try:
            listed = await stub.ListTrainings(training_pb2.ListTrainingsRequest())
        except grpc.aio.AioRpcError:
            return []
    return [training.stage for training in listed.trainings]


async def test_a_service_that_is_killed_finds_its_job_again_and_nothing_is_trained_twice(place: Place) -> None:
    template = place.template("waits for a sign")
    await place.request()
    async with place.service(template) as first:
        await eventually(place.is_at_work, "the pod is at work", PATIENCE_SECONDS)
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
    async with place.service(template) as second:

        async def is_found() -> bool:
            return await stages(second) == ["loading"]

        await eventually(is_found, "the Job is found again", PATIENCE_SECONDS)
        (place.folder / "sign").touch()
        (done,) = await eventually(place.completed, "the training is told of", PATIENCE_SECONDS)
    assert done.error == ""
    assert len(place.cluster.made) == len(calls(place.folder / "imitation")) == 1


async def test_a_cancelled_campaign_leaves_no_job_behind_even_if_the_service_was_down_then(place: Place) -> None:
    template = place.template("waits")
    await place.request()
    async with place.service(template):
        await eventually(place.is_at_work, "the pod is at work", PATIENCE_SECONDS)
    cancelled = events_pb2.CampaignCancelled(campaign_id=CAMPAIGN_ID, cancelled_at="2026-01-01T00:00:00Z")
    await place.bus.publish([encode(CAMPAIGN_CANCELLED, cancelled, "test")])
    async with place.service(template):
        (done,) = await eventually(place.completed, "the end is told", PATIENCE_SECONDS)
    assert done.error == "the campaign was cancelled"
    assert place.cluster.jobs == {}


async def test_a_template_that_is_no_job_ends_the_service_with_file_and_field_and_fix(place: Place) -> None:
    template = place.folder / "pod.yaml"
    template.write_text("apiVersion: v1\nkind: Pod\n")
    async with place.service(template) as service:
        assert await service.process.wait() == 2
    (log,) = place.folder.glob("duologue_training-*.log")
    assert f"setting job.template: {template}: kind: it is a v1 Pod\n    Write a Job" in log.read_text()


@pytest.mark.timeout(REAL_SECONDS + 60)
async def test_a_model_is_trained_for_real_by_a_pod_of_the_environment_with_torch(place: Place) -> None:
    python = require_ml()
    artifacts, model = ArtifactStore(str(place.folder / "artifacts")), place.folder / "model"
    make = await asyncio.create_subprocess_exec(python, ROOT / "tests/support/tiny_llama.py", model)
    assert await make.wait() == 0
    template = write_template(place.folder, str(place.folder / "artifacts"), python=python, HF_HUB_OFFLINE="1")
    order = desk_order(artifacts, str(model), epochs=8)
    await place.bus.publish([encode(TRAINING_REQUESTED, order, "test")])
    async with place.service(template):
        (done,) = await eventually(place.completed, "the training is told of", REAL_SECONDS)
    assert done.error == ""
    assert done.last_loss < done.first_loss - 0.1
    assert artifacts.exists("adapters/desk-r1/adapter/adapter_model.safetensors")
    assert artifacts.exists("adapters/desk-r1/merged/model.safetensors")
