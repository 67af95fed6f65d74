"""Trainings as Jobs. The cluster is a double that runs pods as processes; in them the training process is an imitation.

tests/kube has the same on a real Kubernetes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

from duologue.bus import Record
from duologue.bus.codec import decode
from duologue.contracts.v1 import events_pb2, training_pb2
from duologue.core.problems import WrongSetting
from duologue.store import ArtifactStore
from duologue_training.jobs import JobTrainer
from duologue_training.settings import JobSettings, Settings
from duologue_training.trainings import Trainings
from duologue_training.worker import TrainAdapter
from tests.support.desk import CAMPAIGN_ID
from tests.support.eventually import eventually
from tests.support.kubernetes_api_double import KubernetesApiDouble
from tests.support.training_jobs import write_template
from tests.support.training_process import calls, install

Order = events_pb2.TrainingRequested


class Bench:
    """A cluster, and services that train in it."""

    def __init__(self, folder: Path, artifacts: ArtifactStore, cluster: KubernetesApiDouble, stack: AsyncExitStack):
        self.artifacts = artifacts
        self.cluster = cluster
        self.trainings = Trainings()
        self.cancelled = asyncio.Event()
        self._folder = folder
        self._stack = stack
        self._path = folder
        self._template = folder

    def say(self, *attempts: str) -> None:
        """What the training process does, attempt by attempt."""
        self._path = install(self._folder, *attempts)
        self._template = write_template(self._folder, str(self._folder / "artifacts"), path=self._path)

    async def service(self, *, attempts: int = 3, waiting_seconds: float = 3600, **settings: object) -> TrainAdapter:
        """One that knows nothing of those before it."""
        job = JobSettings(template=str(self._template), poll_seconds=0.05, waiting_seconds=waiting_seconds)
        chosen = Settings(job=job, attempts=attempts, **settings)  # type: ignore[arg-type]
        trainer = await self._stack.enter_async_context(JobTrainer(self.artifacts, chosen))
        return TrainAdapter(self.artifacts, trainer, self.trainings, chosen, self._until_cancelled)

    async def train(self, order: Order, **settings: float) -> events_pb2.TrainingCompleted:
        return completed(await (await self.service(**settings)).handle(order))  # type: ignore[arg-type]

    async def shows(self, claim: Callable[[training_pb2.TrainingProgress], bool], what: str) -> None:
        async def seen() -> bool:
            return any(claim(progress) for progress in self.trainings.known())

        await eventually(seen, f"{what}; known: {self.trainings.known()}")

    async def is_at_work(self, calls: int = 1) -> None:
        """Waits until that training process is, counted from the first."""

        async def claimed() -> bool:
            return len(self.calls) == calls

        await eventually(claimed, "a training process is at work")

    async def has_ended(self, pid: int) -> None:
        """Waits until a process has; the one that started it may be gone, so that nobody asks for its status."""

        async def claimed() -> bool:
            try:
                return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return True

        await eventually(claimed, "the process has ended")

    @property
    def progress(self) -> training_pb2.TrainingProgress:
        (progress,) = self.trainings.known()
        return progress

    @property
    def calls(self) -> list[dict]:
        return calls(self._path)

    async def _until_cancelled(self, campaign_id: str) -> None:
        assert campaign_id == CAMPAIGN_ID
        await self.cancelled.wait()


@pytest.fixture
async def bench(tmp_path: Path, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with KubernetesApiDouble(tmp_path) as cluster, AsyncExitStack() as stack:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield Bench(tmp_path, artifacts, cluster, stack)


def completed(records: list[Record]) -> events_pb2.TrainingCompleted:
    (record,) = records
    return decode(events_pb2.TrainingCompleted, record)


async def stop(service: asyncio.Task[list[Record]]) -> None:
    service.cancel()
    with suppress(asyncio.CancelledError):
        await service


def loading(progress: training_pb2.TrainingProgress) -> bool:
    return progress.stage == "loading"


async def test_an_adapter_is_trained_in_a_job_stored_by_its_pod_and_told_of(bench: Bench, order: Order) -> None:
    bench.say("trains")
    done = await bench.train(order)
    assert (done.error, done.training_id, done.campaign_id, done.round) == ("", "desk-r2", CAMPAIGN_ID, 2)
    assert (done.examples, done.steps, done.first_loss, done.last_loss) == (6, 2, 2.5, 1.25)
    assert bench.artifacts.read("adapters/desk-r2/merged/model.safetensors") == b"merged weights"
    assert bench.artifacts.read(done.adapter.fingerprint.uri, done.adapter.fingerprint.sha256)
    assert b"A LoRA adapter" in bench.artifacts.read("adapters/desk-r2/README.md")
    assert len(bench.cluster.made) == 1
    assert bench.progress.stage == "done"


async def test_a_training_that_is_asked_for_twice_at_once_is_one_job(bench: Bench, order: Order) -> None:
    bench.say("trains")
    services = [await bench.service() for _ in range(2)]
    first, second = await asyncio.gather(*(service.handle(order) for service in services))
    assert completed(first) == completed(second)
    assert completed(first).error == ""
    assert (len(bench.cluster.made), len(bench.calls)) == (1, 1)


async def test_a_service_that_comes_after_another_goes_on_with_its_job(bench: Bench, order: Order) -> None:
    bench.say("waits")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    await stop(training)
    (call,) = bench.calls
    assert psutil.pid_exists(call["pid"])
    bench.trainings = Trainings()
    again = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(loading, "the Job is found again")
    psutil.Process(call["pid"]).kill()
    await bench.shows(lambda progress: len(bench.cluster.made) == 2, "the second attempt")
    await stop(again)
    assert bench.cluster.made == [bench.cluster.made[0], bench.cluster.made[0].removesuffix("1") + "2"]


async def test_what_a_service_before_it_saw_fail_is_not_tried_more_often(bench: Bench, order: Order) -> None:
    bench.say("crashes")
    first = await bench.train(order, attempts=2)
    assert await bench.train(order, attempts=2) == first
    assert len(bench.calls) == 2


@pytest.mark.parametrize("failure", ["killed", "crashes"])
async def test_a_pod_that_dies_is_followed_by_another_attempt(bench: Bench, order: Order, failure: str) -> None:
    bench.say(failure, failure, "trains")
    assert (await bench.train(order)).error == ""
    assert len(bench.cluster.made) == len(bench.calls) == 3


async def test_a_pod_that_is_deleted_is_followed_by_another_attempt(bench: Bench, order: Order) -> None:
    bench.say("waits", "trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    await bench.cluster.kill_pod(bench.cluster.made[0])
    assert completed(await training).error == ""
    assert len(bench.cluster.made) == 2


async def test_a_pod_that_is_killed_when_all_is_stored_has_not_failed(
    bench: Bench, order: Order, tmp_path: Path
) -> None:
    bench.say("trains", "waits")
    first = await bench.train(order)
    stored = tmp_path / "artifacts/adapters"
    stored.rename(tmp_path / "put aside")
    await bench.cluster.delete(bench.cluster.made[0])
    training = asyncio.create_task((await bench.service(attempts=1)).handle(order))
    await bench.is_at_work(calls=2)
    (tmp_path / "put aside").rename(stored)
    await bench.cluster.kill_pod(bench.cluster.made[1])
    assert completed(await training) == first


async def test_a_job_that_somebody_deleted_is_followed_by_another_attempt(bench: Bench, order: Order) -> None:
    bench.say("waits", "trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    await bench.cluster.delete(bench.cluster.made[0])
    assert completed(await training).error == ""


async def test_how_a_pod_ended_and_what_it_said_last_is_in_the_error(bench: Bench, order: Order) -> None:
    bench.say("crashes")
    done = await bench.train(order, attempts=1)
    (name,) = bench.cluster.made
    assert done.error.startswith(f"the pod of the Job {name} ended with status 1: the training process ended")
    assert "MemoryError: no room for the optimizer" in done.error


async def test_a_pod_without_memory_is_told_in_kubernetes_words(bench: Bench, order: Order) -> None:
    bench.say("waits")
    training = asyncio.create_task((await bench.service(attempts=1)).handle(order))
    await bench.is_at_work()
    await bench.cluster.kill_container(bench.cluster.made[0])
    assert "ended with status 137 (OOMKilled)" in completed(await training).error


async def test_a_plan_that_can_never_work_is_reported_at_once(bench: Bench, order: Order) -> None:
    bench.say("unusable")
    done = await bench.train(order, attempts=5)
    assert "ended with status 3" in done.error
    assert "base model 'x' can't be loaded" in done.error
    assert len(bench.calls) == 1


async def test_a_job_that_ran_out_of_time_is_not_given_the_same_time_again(bench: Bench, order: Order) -> None:
    bench.say("waits")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    await bench.cluster.exceed_deadline(bench.cluster.made[0])
    assert "DeadlineExceeded: Job was active longer" in completed(await training).error
    assert len(bench.cluster.made) == 1


async def test_the_progress_of_a_pod_reaches_those_who_watch(bench: Bench, order: Order) -> None:
    bench.say("holds at the last step")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(lambda progress: progress.step == 2, "the last step")
    assert (bench.progress.stage, bench.progress.steps, bench.progress.loss) == ("training", 2, 1.25)
    await stop(training)


WAITS = {
    "no node": ("waits_for", ("Unschedulable", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")),
    "no image": ("image_fault", ("ImagePullBackOff", 'Back-off pulling image "any"')),
}


@pytest.mark.parametrize("case", WAITS)
async def test_why_a_pod_does_not_start_is_told_in_kubernetes_words_until_it_does(
    bench: Bench, order: Order, case: str
) -> None:
    name, words = WAITS[case]
    setattr(bench.cluster, name, words)
    bench.say("trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(lambda progress: progress.stage == "waiting", "it waits")
    assert bench.progress.reason == ": ".join(words)
    await bench.cluster.let_start()
    assert completed(await training).error == ""
    assert bench.progress.reason == ""


async def test_a_quota_that_lets_in_no_pod_is_told_from_kubernetes_events(bench: Bench, order: Order) -> None:
    bench.cluster.no_pods = True
    bench.say("trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(lambda progress: progress.reason == "no pod was made yet", "it waits")
    bench.cluster.events.append((bench.cluster.made[0], "FailedCreate", "exceeded quota: gpus"))
    await bench.shows(lambda progress: progress.reason == "FailedCreate: exceeded quota: gpus", "the event")
    await bench.cluster.let_start()
    assert completed(await training).error == ""


async def test_without_the_right_to_read_events_trainings_go_on(bench: Bench, order: Order) -> None:
    bench.cluster.forbidden["GET events"] = 'events is forbidden: User "duologue" cannot list resource "events"'
    bench.cluster.waits_for = ("Unschedulable", "no node")
    bench.say("trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(lambda progress: progress.reason == "Unschedulable: no node", "it waits")
    await bench.cluster.let_start()
    assert completed(await training).error == ""


@pytest.mark.parametrize(
    "refused", ["jobs.batch is forbidden: exceeded quota: trainings", 'User "duologue" cannot create resource "jobs"']
)
async def test_a_job_that_is_not_let_in_is_asked_for_until_it_is(bench: Bench, order: Order, refused: str) -> None:
    bench.cluster.forbidden["POST jobs"] = refused
    bench.say("trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(lambda progress: progress.reason == f"Forbidden: {refused}", "it waits")
    bench.cluster.forbidden.clear()
    assert completed(await training).error == ""
    assert len(bench.cluster.made) == 1


async def test_a_job_that_waits_for_too_long_has_failed_and_does_not_begin_later(bench: Bench, order: Order) -> None:
    bench.cluster.waits_for = ("Unschedulable", "0/1 nodes are available")
    bench.say("trains")
    done = await bench.train(order, waiting_seconds=1)
    assert done.error.endswith("could not begin in 1 s: Unschedulable: 0/1 nodes are available")
    assert bench.cluster.jobs == {}
    assert len(bench.cluster.made) == 1


async def test_an_api_server_that_is_away_is_waited_for_and_nothing_is_lost(bench: Bench, order: Order) -> None:
    bench.say("waits", "trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    bench.cluster.is_away = True
    await bench.shows(lambda progress: progress.reason.startswith("Kubernetes does not answer"), "it is away")
    assert bench.progress.stage == "loading"
    await bench.cluster.kill_pod(bench.cluster.made[0])
    bench.cluster.is_away = False
    assert completed(await training).error == ""
    assert len(bench.cluster.made) == 2


async def test_a_service_that_starts_while_the_api_server_is_away_serves(bench: Bench, order: Order) -> None:
    bench.say("trains")
    bench.cluster.is_away = True
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.shows(lambda progress: progress.reason.startswith("Kubernetes does not answer"), "it is away")
    bench.cluster.is_away = False
    assert completed(await training).error == ""


async def test_a_campaign_that_is_cancelled_leaves_no_job_behind(bench: Bench, order: Order) -> None:
    bench.say("waits")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    bench.cancelled.set()
    assert completed(await training).error == "the campaign was cancelled"
    assert bench.cluster.jobs == {}
    await bench.has_ended(bench.calls[0]["pid"])


async def test_a_job_for_another_plan_of_the_same_training_makes_place(bench: Bench, order: Order) -> None:
    bench.say("waits", "trains")
    training = asyncio.create_task((await bench.service()).handle(order))
    await bench.is_at_work()
    await stop(training)
    done = completed(await (await bench.service(threads=2)).handle(order))
    assert done.error == ""
    assert [*bench.cluster.jobs] == bench.cluster.made[1:]
    await bench.has_ended(bench.calls[0]["pid"])


async def test_a_pod_that_stores_elsewhere_is_found_out(bench: Bench, order: Order, tmp_path: Path) -> None:
    bench.say("trains")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/trainings").symlink_to(tmp_path / "artifacts/trainings")
    write_template(tmp_path, str(tmp_path / "elsewhere"), path=tmp_path / "imitation")
    assert "left no adapter in the artifact store" in (await bench.train(order)).error
    assert len(bench.cluster.made) == 1


async def test_a_template_that_kubernetes_does_not_take_is_refused_at_the_start(bench: Bench) -> None:
    bench.say("trains")
    bench.cluster.invalid = "spec.template.spec.containers[0].image: Required value"
    with pytest.raises(WrongSetting, match=r"job\.yaml: Kubernetes does not take it: .*image: Required value"):
        await bench.service()


async def test_the_start_leaves_no_job_behind(bench: Bench) -> None:
    bench.say("trains")
    await bench.service()
    assert len(bench.cluster.tried) == 1
    assert bench.cluster.made == []


async def test_without_a_way_to_a_cluster_the_start_says_what_to_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say("trains")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/at/all")
    with pytest.raises(WrongSetting, match="or set KUBECONFIG"):
        await bench.service()


async def test_no_key_of_the_pod_reaches_the_training_process(bench: Bench, order: Order, tmp_path: Path) -> None:
    bench.say("trains")
    key = {"AWS_SECRET_ACCESS_KEY": "secret"}
    write_template(tmp_path, str(tmp_path / "artifacts"), path=tmp_path / "imitation", **key)
    assert (await bench.train(order)).error == ""
    assert "secret" not in str(bench.calls[0]["environment"])
