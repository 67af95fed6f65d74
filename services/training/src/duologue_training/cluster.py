"""Jobs and their pods, as the Kubernetes API tells of them. Nothing else of the service speaks to it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes_asyncio import client, config

from duologue.core.problems import WrongSetting

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_CALL_SECONDS = 20.0
_SHOWN_LINES = 50
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _INVALID = 400, 403, 404, 409, 422


class ApiAway(Exception):
    """The API server does not answer, or does not let us know: it may later."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Job was not taken. One that `may_pass` is a matter of quotas or rights."""

    reason: str
    may_pass: bool


@dataclass(frozen=True, slots=True)
class Job:
    """`failure`: Kubernetes' reason and message, of one that has failed. `created` in seconds of the epoch."""

    name: str
    labels: Mapping[str, str]
    created: float
    is_complete: bool
    failure: str


@dataclass(frozen=True, slots=True)
class Pod:
    """`waits_for`: why its container does not run yet, in Kubernetes' words; empty once it does, or did.

    `status`: how its container ended, if it has. `ended`: Kubernetes' words on the end of container or pod.
    """

    name: str
    waits_for: str
    status: int | None
    ended: str


class Cluster:
    """One namespace of a Kubernetes cluster, as the service account or KUBECONFIG leads to it."""

    def __init__(self, namespace: str, container: str) -> None:
        """`namespace`: the one of the account when empty. `container`: whose end and log count, in each pod."""
        self._namespace = namespace
        self._container = container
        self._api: client.ApiClient
        # Any: their types want models where what people wrote in YAML goes through as it is.
        self._jobs: Any
        self._core: Any

    async def __aenter__(self) -> Self:
        """Raises `WrongSetting` when nothing leads to a cluster."""
        options = client.Configuration()
        options.client_side_validation = False
        try:
            own = await _configure(options)
        except (config.ConfigException, OSError) as error:
            raise WrongSetting(
                f"setting job.template: no way to a Kubernetes API is known ({error}).\n"
                "    Run the service in a pod with a service account's token, or set KUBECONFIG."
            ) from error
        self._namespace = self._namespace or own
        self._api = client.ApiClient(options)
        self._jobs = client.BatchV1Api(self._api)
        self._core = client.CoreV1Api(self._api)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def create(self, manifest: Mapping[str, Any], *, only_try: bool = False) -> Refusal | None:
        """Make a Job; nothing happens if there is one of its name. `only_try`: Kubernetes says whether it would.

        Who cancels this waits for its end: else nobody could tell whether there is a Job now.
        """
        # Strict: a field that Kubernetes does not know is mistyped. In a Job that is made it would be left out.
        dry = {"dry_run": "All", "field_validation": "Strict"} if only_try else {}
        call = self._jobs.create_namespaced_job(self._namespace, dict(manifest), **dry, **_patience())
        try:
            await _answer(_undivided(call), _BAD_REQUEST, _FORBIDDEN, _CONFLICT, _INVALID)
        except client.ApiException as error:
            if error.status != _CONFLICT:
                return Refusal(_message(error), may_pass=error.status == _FORBIDDEN)
        return None

    async def jobs(self, labels: Mapping[str, str]) -> list[Job]:
        """Those that have the labels."""
        selector = _selector(labels)
        found = await _answer(self._jobs.list_namespaced_job(self._namespace, label_selector=selector, **_patience()))
        return [_job(job) for job in found.items]

    async def job(self, name: str) -> Job | None:
        try:
            return _job(await _answer(self._jobs.read_namespaced_job(name, self._namespace, **_patience()), _NOT_FOUND))
        except client.ApiException:
            return None

    async def delete(self, name: str) -> None:
        """Delete a Job, if there is one; it is gone when its pods are."""
        options = {"propagation_policy": "Foreground", **_patience()}
        with suppress(client.ApiException):
            await _answer(self._jobs.delete_namespaced_job(name, self._namespace, **options), _NOT_FOUND)

    async def pod(self, job: str) -> Pod | None:
        """The pod of a Job, the last one where there are several."""
        selector = _selector({"batch.kubernetes.io/job-name": job})
        found = await _answer(self._core.list_namespaced_pod(self._namespace, label_selector=selector, **_patience()))
        pods = sorted(found.items, key=lambda pod: pod.metadata.creation_timestamp)
        return _pod(pods[-1], self._container) if pods else None

    async def warning(self, name: str) -> str:
        """What Kubernetes warned of last about a Job or a pod; empty when of nothing, or when we may not know."""
        selector = f"involvedObject.name={name},type=Warning"
        call = self._core.list_namespaced_event(self._namespace, field_selector=selector, **_patience())
        try:
            found = await _answer(call, _FORBIDDEN)
        except client.ApiException:  # the right to read events is worth having, and nothing depends on it
            return ""
        events = sorted(found.items, key=lambda event: (event.last_timestamp or event.event_time).timestamp())
        return _words(events[-1].reason, events[-1].message) if events else ""

    async def log(self, pod: str) -> list[str]:
        """The last lines of a pod; none where its node does not give them."""
        call = self._core.read_namespaced_pod_log(
            pod,
            self._namespace,
            container=self._container,
            tail_lines=_SHOWN_LINES,
            _preload_content=False,  # else a line of JSON comes as Python's notation
            **_patience(),
        )
        try:
            response = await _answer(call)
            text: str = await _answer(response.text(errors="replace"))
        except ApiAway:  # a node that is lost has no log, and its Job goes on without
            return []
        return text.splitlines() if response.status == 200 else []


def _patience() -> dict[str, Any]:
    return {"_request_timeout": _CALL_SECONDS}


async def _answer(call: Awaitable[Any], *expected: int) -> Any:
    """What the API answers. Raises `ApiAway`, and ApiException for the statuses that are expected."""
    try:
        return await call
    except client.ApiException as error:
        if error.status in expected:
            raise
        raise ApiAway(f"{error.status} {_message(error)}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ApiAway(f"{type(error).__name__}: {error}") from error


async def _undivided(call: Awaitable[Any]) -> Any:
    work = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(work)
    finally:
        await asyncio.wait({work})


def _message(error: client.ApiException) -> str:
    """Of the Status that the API server answers with; of a proxy before it, what there is."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, LookupError, TypeError):
        return str(error.reason)


async def _configure(options: client.Configuration) -> str:
    """By the service account's token, or by KUBECONFIG. The namespace that either names."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=options)  # type: ignore[no-untyped-call]
        return await asyncio.to_thread(_NAMESPACE_FILE.read_text)
    file = os.environ.get("KUBECONFIG")  # which the library reads when it is imported, not now
    await config.load_kube_config(file, client_configuration=options)
    _, active = config.list_kube_config_contexts(file)
    return str(((active or {}).get("context") or {}).get("namespace") or "default")


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _job(job: Any) -> Job:
    conditions = {one.type: one for one in (job.status and job.status.conditions) or () if one.status == "True"}
    failed = conditions.get("Failed")
    created: datetime = job.metadata.creation_timestamp
    return Job(
        name=job.metadata.name,
        labels=job.metadata.labels or {},
        created=created.timestamp(),
        is_complete="Complete" in conditions,
        failure=_words(failed.reason, failed.message) if failed else "",
    )


def _pod(pod: Any, container: str) -> Pod:
    status = pod.status
    container_status = next((one for one in status.container_statuses or () if one.name == container), None)
    state = container_status and container_status.state
    terminated = state and state.terminated
    is_started = terminated or (state and state.running) or status.phase in ("Succeeded", "Failed")
    # Of a container that ends well or badly Kubernetes says no more than that.
    words = terminated.reason if terminated and terminated.reason not in ("Error", "Completed") else ""
    return Pod(
        name=pod.metadata.name,
        waits_for="" if is_started else _waits_for(status),
        status=terminated.exit_code if terminated else None,
        ended=words or _words(status.reason, status.message) or _failed_before(status),
    )


def _failed_before(status: Any) -> str:
    """The container that let no other start, if there is one."""
    for one in status.init_container_statuses or ():
        if one.state and one.state.terminated and one.state.terminated.exit_code:
            return f"init container {one.name} ended with status {one.state.terminated.exit_code}"
    return ""


def _waits_for(status: Any) -> str:
    statuses: Sequence[Any] = [*(status.init_container_statuses or ()), *(status.container_statuses or ())]
    for waiting in (one.state.waiting for one in statuses if one.state and one.state.waiting):
        if waiting.reason:
            return _words(waiting.reason, waiting.message)
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return _words(condition.reason, condition.message)
    return _words(status.reason, status.message) or "Pending"


def _words(reason: str | None, message: str | None) -> str:
    return ": ".join(part for part in (reason, message) if part)
