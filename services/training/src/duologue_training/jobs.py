"""Trainings as Jobs on Kubernetes, one for each attempt. What is known of them lies in the cluster, not here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, Self, TypeVar

import structlog
from pydantic import ValidationError

from duologue.store import ArtifactStore
from duologue_training.adapter import is_stored
from duologue_training.cluster import ApiAway, Cluster, Job, Pod
from duologue_training.order import TrainingOrder
from duologue_training.plan import UNUSABLE, ProgressLine
from duologue_training.settings import JobSettings, Settings
from duologue_training.template import (
    ATTEMPT,
    MANAGED_BY_US,
    MANAGER,
    TRAINING,
    JobTemplate,
    is_of_plan,
    job_name,
    training_label,
)
from duologue_training.trainer import Told, TrainingFailed

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LONGEST_PAUSE_SECONDS = 30.0


def order_place(order: TrainingOrder) -> str:
    """Where in the artifact store a pod finds its order."""
    return f"trainings/{order.training_id}/{order.sha256}.json"


class JobTrainer:
    """Makes a Job for an order, or finds the one that a service before it made, and goes with it to its end.

    A service that stops leaves its Jobs at work. What a pod is told, and what it makes, goes by the artifact store.
    """

    at_once = 16  # which of them run is Kubernetes' business

    def __init__(self, artifacts: ArtifactStore, settings: Settings) -> None:
        """Raises `WrongSetting` for a template that is none."""
        self._artifacts = artifacts
        self._settings = settings.job
        self._template = JobTemplate(settings.job.template)
        self._cluster = Cluster(settings.job.namespace, self._template.container)

    async def __aenter__(self) -> Self:
        """Raises `WrongSetting` for a Job that Kubernetes would never take."""
        await self._cluster.__aenter__()
        try:
            await self._try_template()
        except BaseException:
            await self._cluster.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cluster.__aexit__()

    async def next_attempt(self, order: TrainingOrder, told: Told) -> int:
        """Jobs for another plan of the same training are removed first: their adapter would have the same name."""
        watched = _Watched(order.training_id, self._settings, told)
        jobs = await watched.answered(lambda: self._cluster.jobs(_labels(order)))
        for job in jobs:
            if not is_of_plan(job.labels, order):
                log.info("Job of another plan is removed", training=order.training_id, job=job.name)
                await self._remove(job.name, watched)
        return max((_number(job) for job in jobs if is_of_plan(job.labels, order)), default=1)

    async def attempt(self, order: TrainingOrder, number: int, told: Told) -> None:
        name, place = job_name(order, number), order_place(order)
        run = _JobRun(name, self._cluster, _Watched(name, self._settings, told))
        await asyncio.to_thread(self._artifacts.write, place, order.to_json())
        try:
            await run.submit(self._template.job(order, number, place))
            await run.follow()
        except TrainingFailed:
            if not await self._is_stored(order):  # it is, if the pod was killed between its last write and its end
                raise
        if not await self._is_stored(order):
            raise TrainingFailed(
                f"the Job {name} ended well, and left no adapter in the artifact store: does its template give it the "
                "DUOLOGUE_ARTIFACTS__URL of this service?",
                is_final=True,
            )

    async def abandon(self, order: TrainingOrder) -> None:
        watched = _Watched(order.training_id, self._settings)
        for job in await watched.answered(lambda: self._cluster.jobs(_labels(order))):
            log.info("Job is removed: nobody wants its adapter any more", training=order.training_id, job=job.name)
            await self._remove(job.name, watched)

    async def _is_stored(self, order: TrainingOrder) -> bool:
        return await asyncio.to_thread(is_stored, self._artifacts, order.request.adapter_id)

    async def _try_template(self) -> None:
        try:
            refusal = await self._cluster.create(self._template.trial(), only_try=True)
        except ApiAway as error:
            log.warning("Kubernetes does not answer: the template is not checked", reason=str(error))
            return
        if refusal and not refusal.may_pass:
            self._template.refuse(f"Kubernetes does not take it: {refusal.reason}")
        if refusal:
            log.warning("Kubernetes would not let in a training now", reason=refusal.reason)

    async def _remove(self, name: str, watched: _Watched) -> None:
        """Delete, and wait until no pod of it is at work any more."""
        await watched.answered(lambda: self._cluster.delete(name))
        while await watched.answered(lambda: self._cluster.job(name)) is not None:
            await watched.pause()


class _Watched:
    """What those who watch are told, also of an API server that is away: a Job goes on without it."""

    def __init__(self, name: str, settings: JobSettings, told: Told | None = None) -> None:
        """`name`: of the Job or the training, for the log."""
        self._name = name
        self._settings = settings
        self._told = told
        self.last = ProgressLine(stage="waiting")
        self._since = time.time()

    async def answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the API server answers, however long that takes."""
        pause = self._settings.poll_seconds
        while True:
            try:
                return await call()
            except ApiAway as error:
                reason = f"Kubernetes does not answer: {error}"
                log.warning("Kubernetes does not answer", of=self._name, reason=str(error), again_in_seconds=pause)
                await self.tell(self.last.model_copy(update={"reason": reason}))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def tell(self, line: ProgressLine) -> None:
        if line != self.last:
            self.last = line
            if self._told is not None:
                await self._told(line)

    async def pause(self) -> None:
        await asyncio.sleep(self._settings.poll_seconds)

    def began(self, seconds: float) -> None:
        """When what is waited for was asked for, in seconds of the epoch: maybe by a service before this one."""
        self._since = seconds

    async def wait(self, reason: str) -> None:
        """Tell why nothing goes on, and pause. Raises `TrainingFailed` when that has been so for too long."""
        if time.time() - self._since > self._settings.waiting_seconds:
            seconds = f"{self._settings.waiting_seconds:g} s"
            raise TrainingFailed(f"the Job {self._name} could not begin in {seconds}: {reason}", is_final=True)
        if reason != self.last.reason:
            log.info("training waits", of=self._name, reason=reason)
        await self.tell(ProgressLine(stage="waiting", reason=reason))
        await self.pause()


class _JobRun:
    """One Job on its way."""

    def __init__(self, name: str, cluster: Cluster, watched: _Watched) -> None:
        self._name = name
        self._cluster = cluster
        self._watched = watched

    async def submit(self, manifest: dict[str, object]) -> None:
        """Have a Job of this name, made now or before. One that is not let in, as by a quota, is asked for again."""
        while refusal := await self._watched.answered(lambda: self._cluster.create(manifest)):
            if not refusal.may_pass:
                raise TrainingFailed(f"Kubernetes does not take the Job {self._name}: {refusal.reason}", is_final=True)
            await self._watched.wait(f"Forbidden: {refusal.reason}")

    async def follow(self) -> None:
        """Tell of the Job until it has ended well. Raises `TrainingFailed`."""
        while not (job := await self._job()).is_complete:
            pod = await self._watched.answered(lambda: self._cluster.pod(self._name))
            if job.failure:
                await self._fail(job, pod)
            if pod is None or pod.waits_for:
                await self._wait(job, await self._reason(pod))
            else:
                await self._watched.tell(_progress(await self._cluster.log(pod.name), self._watched.last))
                await self._watched.pause()

    async def _job(self) -> Job:
        job = await self._watched.answered(lambda: self._cluster.job(self._name))
        if job is None:
            raise TrainingFailed(f"the Job {self._name} is gone: it was deleted")
        return job

    async def _fail(self, job: Job, pod: Pod | None) -> NoReturn:
        if pod is None or pod.status is None:
            words = pod.ended if pod and pod.ended else "its pod was deleted, or its node is lost"
            # A time that was too short for this attempt is for the next.
            is_final = job.failure.startswith("DeadlineExceeded")
            raise TrainingFailed(f"the Job {self._name} failed: {words} ({job.failure})", is_final=is_final)
        said = [line for line in await self._cluster.log(pod.name) if _parsed(line) is None]
        ended = f"status {pod.status}" + (f" ({pod.ended})" if pod.ended else "")
        message = f"the pod of the Job {self._name} ended with {ended}: {said[-1] if said else 'it said nothing'}"
        raise TrainingFailed(message, is_final=pod.status == UNUSABLE)

    async def _reason(self, pod: Pod | None) -> str:
        """Why there is no pod, or it does not run. Where Kubernetes names no cause it may have warned of one."""
        if pod is not None and ": " in pod.waits_for:
            return pod.waits_for
        warning = await self._watched.answered(lambda: self._cluster.warning(pod.name if pod else self._name))
        if pod is None:
            return warning or "no pod was made yet"
        return f"{pod.waits_for} ({warning})" if warning else pod.waits_for

    async def _wait(self, job: Job, reason: str) -> None:
        """A Job that has waited for too long must not begin when nobody waits for it any more."""
        self._watched.began(job.created)
        try:
            await self._watched.wait(reason)
        except TrainingFailed:
            await self._watched.answered(lambda: self._cluster.delete(self._name))
            raise


def _labels(order: TrainingOrder) -> dict[str, str]:
    """Of all Jobs of a training."""
    return {MANAGER: MANAGED_BY_US, TRAINING: training_label(order.training_id)}


def _number(job: Job) -> int:
    number = job.labels.get(ATTEMPT, "")
    return int(number) if number.isdecimal() else 1


def _progress(lines: list[str], before: ProgressLine) -> ProgressLine:
    """The last that a pod told. One that told nothing is loading; one that can't be heard now is where it was."""
    told = (line for line in map(_parsed, reversed(lines)) if line)
    silent = ProgressLine(stage="loading") if before.stage == "waiting" else before.model_copy(update={"reason": ""})
    return next(told, silent)


def _parsed(line: str) -> ProgressLine | None:
    try:
        return ProgressLine.model_validate_json(line)
    except ValidationError:
        return None  # a library's chatter, or an error
