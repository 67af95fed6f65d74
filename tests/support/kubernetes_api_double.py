"""The part of the Kubernetes API that trainings use, over real HTTP, with a node that runs containers as processes.

It stands in for a cluster: Jobs are made, listed, read and deleted; the pod of a Job runs the command of its first
container as a child process with the variables that its manifest sets, and has a log and an end. What keeps a pod from
starting, a quota, rights that lack, and an API server that is away are up to the test.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.support.http_app import serve

NAMESPACE = "trainings"
_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
_CORE = f"/api/v1/namespaces/{NAMESPACE}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return web.json_response({**body, "code": code}, status=code)


@dataclass
class RunningPod:
    """A pod as the API tells of it, its process and what that printed."""

    manifest: dict[str, Any]
    log: Path
    process: asyncio.subprocess.Process | None = None
    watching: asyncio.Task[None] | None = None


@dataclass
class KubernetesApiDouble:
    """`made`: names of all Jobs that ever were. Set before a Job is made: `waits_for` keeps pods from starting, as
    (reason, message) of the scheduler; `image_fault`, as of the kubelet; `no_pods` keeps the Job from making any.
    """

    folder: Path
    made: list[str] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, RunningPod] = field(default_factory=dict)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    forbidden: dict[str, str] = field(default_factory=dict)
    invalid: str = ""
    waits_for: tuple[str, str] | None = None
    image_fault: tuple[str, str] | None = None
    no_pods: bool = False
    is_away: bool = False
    requests_while_away: int = 0

    async def __aenter__(self) -> KubernetesApiDouble:
        app = web.Application(middlewares=[self._gate])
        app.router.add_post(_JOBS, self._create)
        app.router.add_get(_JOBS, self._list_jobs)
        app.router.add_get(_JOBS + "/{name}", self._read_job)
        app.router.add_delete(_JOBS + "/{name}", self._delete_job)
        app.router.add_get(f"{_CORE}/pods", self._list_pods)
        app.router.add_get(f"{_CORE}/pods/{{name}}/log", self._read_log)
        app.router.add_get(f"{_CORE}/events", self._list_events)
        self._runner, url = await serve(app)
        cluster = {"name": "double", "cluster": {"server": url}}
        context = {"name": "double", "context": {"cluster": "double", "user": "tester", "namespace": NAMESPACE}}
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "double",
                    "clusters": [cluster],
                    "contexts": [context],
                    "users": [{"name": "tester", "user": {"token": "a-token"}}],
                }
            )
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in [*self.pods]:
            await self._end_pod(name)
        await self._runner.cleanup()

    async def let_start(self) -> None:
        """Nothing keeps pods from starting any more."""
        self.waits_for = self.image_fault = None
        self.no_pods = False
        for job in self.jobs.values():
            await self._start_pod(job)

    async def kill_pod(self, job: str) -> None:
        """As `kubectl delete pod --now`, or the loss of its node: the Job has failed, and no pod tells why."""
        for name in self._pods_of(job):
            await self._end_pod(name)
        self._fail(self.jobs[job], "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    async def kill_container(self, job: str) -> None:
        """As the kernel does that has no memory left."""
        for name in self._pods_of(job):
            process = self.pods[name].process
            assert process is not None
            os.killpg(process.pid, signal.SIGKILL)

    async def delete(self, job: str) -> None:
        """As `kubectl delete job`."""
        for name in self._pods_of(job):
            await self._end_pod(name)
        del self.jobs[job]

    async def exceed_deadline(self, job: str) -> None:
        for name in self._pods_of(job):
            await self._end_pod(name)
        self._fail(self.jobs[job], "DeadlineExceeded", "Job was active longer than specified deadline")

    def log_of(self, job: str) -> str:
        return "".join(self.pods[name].log.read_text() for name in self._pods_of(job))

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.is_away:
            self.requests_while_away += 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        kind = request.path.rpartition("/")[2] if "name" not in request.match_info else ""
        if message := self.forbidden.get(f"{request.method} {kind}"):
            return _status(403, "Forbidden", message)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _create(self, request: web.Request) -> web.Response:
        job = await request.json()
        name = job["metadata"]["name"]
        if self.invalid:
            return _status(422, "Invalid", f'Job.batch "{name}" is invalid: {self.invalid}')
        if request.query.get("dryRun") == "All":
            self.tried.append(job)
            return web.json_response(job, status=201)
        if name in self.jobs:
            return _status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        job["metadata"] |= {"namespace": NAMESPACE, "uid": name, "creationTimestamp": _now()}
        job["status"] = {}
        self.jobs[name] = job
        self.made.append(name)
        await self._start_pod(job)
        return web.json_response(job, status=201)

    async def _list_jobs(self, request: web.Request) -> web.Response:
        found = [job for job in self.jobs.values() if _matches(job, request.query["labelSelector"])]
        return web.json_response({"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": found})

    async def _read_job(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["name"])
        if job is None:
            return _status(404, "NotFound", f'jobs.batch "{request.match_info["name"]}" not found')
        return web.json_response(job)

    async def _delete_job(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.jobs:
            return _status(404, "NotFound", f'jobs.batch "{name}" not found')
        assert request.query["propagationPolicy"] == "Foreground"
        await self.delete(name)
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    async def _list_pods(self, request: web.Request) -> web.Response:
        pods = [pod.manifest for pod in self.pods.values() if _matches(pod.manifest, request.query["labelSelector"])]
        return web.json_response({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods})

    async def _read_log(self, request: web.Request) -> web.Response:
        pod = self.pods.get(request.match_info["name"])
        if pod is None or pod.process is None:
            return _status(400, "BadRequest", "container is waiting to start")
        lines = pod.log.read_text(errors="replace").splitlines()[-int(request.query["tailLines"]) :]
        return web.Response(text="".join(line + "\n" for line in lines))

    async def _list_events(self, request: web.Request) -> web.Response:
        items = [
            {
                "metadata": {"name": f"event-{number}", "namespace": NAMESPACE},
                "involvedObject": {"name": about},
                "reason": reason,
                "message": message,
                "type": "Warning",
                "lastTimestamp": _now(),
            }
            for number, (about, reason, message) in enumerate(self.events)
            if f"involvedObject.name={about}," in request.query["fieldSelector"]
        ]
        return web.json_response({"apiVersion": "v1", "kind": "EventList", "metadata": {}, "items": items})

    def _pods_of(self, job: str) -> list[str]:
        return [name for name, pod in self.pods.items() if pod.manifest["metadata"]["labels"]["job-name"] == job]

    async def _start_pod(self, job: dict[str, Any]) -> None:
        job_name, template = job["metadata"]["name"], job["spec"]["template"]
        if self.no_pods or job["status"].get("conditions"):
            return
        name = f"{job_name}-abcde"
        labels = {**template["metadata"]["labels"], "job-name": job_name, "batch.kubernetes.io/job-name": job_name}
        metadata = {"name": name, "labels": labels, "creationTimestamp": _now()}
        container = template["spec"]["containers"][0]
        manifest = {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}
        pod = self.pods.setdefault(name, RunningPod(manifest, self.folder / f"{name}.log"))
        pod.manifest = manifest
        if self.waits_for:
            reason, message = self.waits_for
            condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
            manifest["status"]["conditions"] = [condition]
            return
        if self.image_fault:
            reason, message = self.image_fault
            _set_state(manifest, "Pending", container["name"], {"waiting": {"reason": reason, "message": message}})
            return
        await self._run(job, pod, container)

    async def _run(self, job: dict[str, Any], pod: RunningPod, container: dict[str, Any]) -> None:
        variables = {one["name"]: one["value"] for one in container.get("env", [])}
        with pod.log.open("wb") as log:
            pod.process = await asyncio.create_subprocess_exec(
                *container["command"],
                *container.get("args", []),
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], **variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _set_state(pod.manifest, "Running", container["name"], {"running": {"startedAt": _now()}})
        pod.watching = asyncio.create_task(self._end_with(job, pod, container["name"]))

    async def _end_with(self, job: dict[str, Any], pod: RunningPod, container: str) -> None:
        assert pod.process is not None
        status = await pod.process.wait()
        code = status if status >= 0 else 128 - status
        reason = "Completed" if code == 0 else "OOMKilled" if status == -signal.SIGKILL else "Error"
        ended = {"exitCode": code, "reason": reason, "startedAt": _now(), "finishedAt": _now()}
        _set_state(pod.manifest, "Succeeded" if code == 0 else "Failed", container, {"terminated": ended})
        if code == 0:
            job["status"] = {"succeeded": 1, "conditions": [_condition("Complete", "CompletionsReached", "done")]}
        else:
            self._fail(job, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    def _fail(self, job: dict[str, Any], reason: str, message: str) -> None:
        job["status"] = {"failed": 1, "conditions": [_condition("Failed", reason, message)]}

    async def _end_pod(self, name: str) -> None:
        pod = self.pods.pop(name)
        if pod.watching is not None:
            pod.watching.cancel()
            await asyncio.gather(pod.watching, return_exceptions=True)
        if pod.process is not None and pod.process.returncode is None:
            os.killpg(pod.process.pid, signal.SIGKILL)
            await pod.process.wait()


def _set_state(manifest: dict[str, Any], phase: str, container: str, state: dict[str, Any]) -> None:
    status = {"name": container, "image": "any", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    manifest["status"] = {"phase": phase, "containerStatuses": [status]}


def _condition(kind: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": _now()}


def _matches(manifest: dict[str, Any], selector: str) -> bool:
    labels = manifest["metadata"]["labels"]
    return all(labels.get(name) == value for name, _, value in (one.partition("=") for one in selector.split(",")))
