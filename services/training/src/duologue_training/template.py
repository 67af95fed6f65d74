"""The Job that people wrote for trainings, and what the service fills in for each."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from duologue.core.problems import Problem, WrongSetting
from duologue_training.order import TrainingOrder

# Labels of Jobs and their pods.
TRAINING, PLAN, ATTEMPT, CAMPAIGN = "duologue/training", "duologue/plan", "duologue/attempt", "duologue/campaign"
MANAGER = "app.kubernetes.io/managed-by"
MANAGED_BY_US = "duologue-training"

CONTAINER = "training"

_ONE = ("completions", "parallelism")
_DEFAULTS = {"activeDeadlineSeconds": 86_400, "ttlSecondsAfterFinished": 3600}
# What Kubernetes takes: of a label, and of the name of a Job, which its pods are named after.
_LONGEST_LABEL = 63
_NO_NAME = re.compile(r"[^a-z0-9]+")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_NAMED_CHARACTERS = 30
_HASHED_CHARACTERS = 10


def job_name(order: TrainingOrder, attempt: int) -> str:
    """One name for one attempt at one plan, whoever makes the Job, and however often."""
    spoken = _NO_NAME.sub("-", order.training_id.lower())[:_NAMED_CHARACTERS].strip("-")
    return f"training-{spoken}-{_plan_label(order)}-{attempt}"


def training_label(training_id: str) -> str:
    """The id, or what stands for it where that is no label."""
    if _LABEL.fullmatch(training_id):
        return training_id
    digest = hashlib.sha256(training_id.encode()).hexdigest()[:_HASHED_CHARACTERS]
    spoken = re.sub(r"[^A-Za-z0-9_.-]", "-", training_id)[: _LONGEST_LABEL - len(digest) - 2]
    return f"t{spoken}{digest}"


def is_of_plan(labels: Mapping[str, str], order: TrainingOrder) -> bool:
    return labels.get(PLAN) == _plan_label(order)


def _plan_label(order: TrainingOrder) -> str:
    return order.sha256[:_HASHED_CHARACTERS]


class JobTemplate:
    """A Job as YAML. Name, labels and the last argument of the container are the service's; all else stays."""

    def __init__(self, path: str) -> None:
        """Raises `WrongSetting` for a file that is no such Job."""
        self._path = path
        self._job = self._read()
        self._check()

    def job(self, order: TrainingOrder, attempt: int, place: str) -> dict[str, Any]:
        """The manifest for an attempt; `place`: where in the artifact store its order lies."""
        labels = {
            TRAINING: training_label(order.training_id),
            CAMPAIGN: training_label(order.request.campaign_id),
            PLAN: _plan_label(order),
            ATTEMPT: str(attempt),
        }
        return self._filled_in(job_name(order, attempt), labels, place)

    def trial(self) -> dict[str, Any]:
        """A manifest to ask Kubernetes what it thinks of it."""
        return self._filled_in("training-trial", {}, "trial")

    def _filled_in(self, name: str, labels: dict[str, str], place: str) -> dict[str, Any]:
        job: dict[str, Any] = copy.deepcopy(self._job)
        metadata = _part(job, "metadata")
        metadata.pop("generateName", None)
        metadata["name"] = name
        spec = job["spec"]
        for labelled in (metadata, _part(spec["template"], "metadata")):
            _part(labelled, "labels").update({MANAGER: MANAGED_BY_US, **labels})
        for field, value in _DEFAULTS.items():
            spec.setdefault(field, value)
        spec["backoffLimit"] = 0
        spec["template"]["spec"]["restartPolicy"] = "Never"
        container = self._container(job)
        container["args"] = [*container.get("args", []), place]
        return job

    @property
    def container(self) -> str:
        """The name of the container that trains."""
        return str(self._container(self._job)["name"])

    def refuse(self, reason: str) -> NoReturn:
        """Also for what the file alone does not show. Raises `WrongSetting`."""
        raise WrongSetting(f"setting job.template: {Problem(self._path, 0, reason)}")

    def _read(self) -> Any:
        try:
            return yaml.safe_load(Path(self._path).read_text())
        except (OSError, UnicodeDecodeError) as error:
            self.refuse(f"can't be read: {error}")
        except yaml.YAMLError as error:
            self.refuse(f"is no YAML with one document: {error}")

    def _check(self) -> None:
        job = self._job
        if not isinstance(job, dict) or (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
            found = f"{job.get('apiVersion')} {job.get('kind')}" if isinstance(job, dict) else type(job).__name__
            self._wrong("kind", f"it is a {found}", "Write a Job of apiVersion batch/v1.")
        spec = self._mapping("spec")
        pod = self._mapping("spec.template.spec")
        for path in ("metadata", "metadata.labels", "spec.template.metadata", "spec.template.metadata.labels"):
            self._mapping(path, optional=True)
        for field in _ONE:
            if spec.get(field, 1) != 1:
                self._wrong(f"spec.{field}", f"it is {spec[field]!r}", "Remove it: a training is one pod.")
        if spec.get("backoffLimit", 0) != 0:
            self._wrong(
                "spec.backoffLimit",
                f"it is {spec['backoffLimit']!r}",
                "Remove it: how often a training is tried is the setting attempts.",
            )
        if pod.get("restartPolicy", "Never") != "Never":
            self._wrong("spec.template.spec.restartPolicy", f"it is {pod['restartPolicy']!r}", "Set it to Never.")
        self._check_containers(pod.get("containers"))

    def _check_containers(self, containers: Any) -> None:
        path = "spec.template.spec.containers"
        if not isinstance(containers, list) or not all(isinstance(one, dict) and one.get("name") for one in containers):
            self._wrong(path, "it is no list of containers with names", "")
        if len(containers) != 1 and CONTAINER not in [one["name"] for one in containers]:
            self._wrong(path, "none of several is the one that trains", f'Name it "{CONTAINER}".')
        if not isinstance(self._container(self._job).get("args", []), list):
            self._wrong(f"{path}.args", "it is no list", "The service adds where the order of a training lies.")

    def _mapping(self, path: str, *, optional: bool = False) -> dict[str, Any]:
        found: Any = self._job
        for step in path.split("."):
            found = found.get(step)
            if found is None and optional:
                return {}
            if not isinstance(found, dict):
                self._wrong(path, "it is missing" if found is None else f"it is a {type(found).__name__}", "")
        return dict(found)

    def _wrong(self, field: str, message: str, fix: str) -> NoReturn:
        raise WrongSetting(f"setting job.template: {Problem(self._path, 0, f'{field}: {message}', fix)}")

    @staticmethod
    def _container(job: Any) -> dict[str, Any]:
        containers = job["spec"]["template"]["spec"]["containers"]
        chosen: dict[str, Any] = next((one for one in containers if one["name"] == CONTAINER), containers[0])
        return chosen


def _part(whole: dict[str, Any], name: str) -> dict[str, Any]:
    """A mapping in a manifest, made where it is not there or empty."""
    if whole.get(name) is None:
        whole[name] = {}
    part: dict[str, Any] = whole[name]
    return part
