"""The Job that people wrote for trainings: what is filled in, what stays, and what is refused at the start."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from duologue.contracts.v1 import events_pb2
from duologue.core.problems import WrongSetting
from duologue_training.order import TrainingOrder
from duologue_training.plan import Example, TrainingPlan
from duologue_training.template import JobTemplate, job_name
from tests.support.requirements import ROOT

EXAMPLE = ROOT / "docs/operations/training-job.yaml"
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def order(training_id: str = "desk-r2", rank: int = 4) -> TrainingOrder:
    request = events_pb2.TrainingRequested(
        training_id=training_id, adapter_id=training_id, campaign_id="0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d"
    )
    return TrainingOrder(
        request,
        TrainingPlan(
            training_id=training_id,
            base_model="models/base",
            examples=[Example(prompt=[{"role": "user", "content": "Hello."}], completion="Hello.")],
            rank=rank,
            alpha=2,
            learning_rate=1e-4,
            weight_decay=0.0,
            batch_size=1,
            epochs=1,
            warmup_steps=0,
            max_tokens=64,
            seed=0,
            merge=True,
            threads=0,
            device="auto",
        ),
    )


@pytest.fixture
def written() -> dict[str, Any]:
    """What the documentation gives as an example."""
    document: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    return document


def template(folder: Path, job: object) -> JobTemplate:
    path = folder / "job.yaml"
    path.write_text(job if isinstance(job, str) else yaml.safe_dump(job))
    return JobTemplate(str(path))


def test_name_labels_and_the_place_of_the_order_are_filled_in_and_the_rest_stays(
    tmp_path: Path, written: dict[str, Any]
) -> None:
    written["spec"]["template"]["spec"]["aFieldOfTomorrow"] = {"any": ["thing"]}
    job = template(tmp_path, written).job(order(), 2, "trainings/desk-r2/x.json")
    assert job["metadata"].pop("name") == job_name(order(), 2)
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        labels = metadata["labels"]
        assert labels.pop("app.kubernetes.io/managed-by") == "duologue-training"
        assert labels.pop("duologue/training") == "desk-r2"
        assert labels.pop("duologue/campaign") == "0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d"
        assert labels.pop("duologue/attempt") == "2"
        assert labels.pop("duologue/plan") in job_name(order(), 2)
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container.pop("args") == ["trainings/desk-r2/x.json"]
    job["spec"].pop("backoffLimit")
    assert job == written


def test_what_is_not_said_has_limits_of_time(tmp_path: Path, written: dict[str, Any]) -> None:
    for field in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        written["spec"].pop(field)
    job = template(tmp_path, written).job(order(), 1, "place")
    spec = job["spec"]
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) == (86_400, 3600, 0)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_of_several_containers_the_one_that_trains_is_told(tmp_path: Path, written: dict[str, Any]) -> None:
    containers = written["spec"]["template"]["spec"]["containers"]
    containers.insert(0, {"name": "proxy", "image": "proxy:1"})
    found = template(tmp_path, written)
    job = found.job(order(), 1, "place")
    assert found.container == "training"
    assert [one.get("args") for one in job["spec"]["template"]["spec"]["containers"]] == [None, ["place"]]


def test_arguments_of_the_template_come_before_the_place(tmp_path: Path, written: dict[str, Any]) -> None:
    written["spec"]["template"]["spec"]["containers"][0]["args"] = ["-m", "duologue_training.pod"]
    job = template(tmp_path, written).job(order(), 1, "place")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["-m", "duologue_training.pod", "place"]


@pytest.mark.parametrize("training_id", ["desk-r2", "Desk.R2_final", "x" * 200, "9", "a-" * 90, "Ü".join("ab"), "a_"])
def test_names_and_labels_are_such_as_kubernetes_takes(
    tmp_path: Path, written: dict[str, Any], training_id: str
) -> None:
    job = template(tmp_path, written).job(order(training_id), 20, "place")
    assert DNS_LABEL.fullmatch(job["metadata"]["name"])
    assert all(LABEL.fullmatch(value) for value in job["metadata"]["labels"].values())


def test_each_attempt_at_each_plan_has_a_name_of_its_own_and_the_same_one_whoever_asks() -> None:
    names = [job_name(order("a" * 100 + end, rank), attempt) for end in "bc" for rank in (1, 2) for attempt in (1, 2)]
    assert len(set(names)) == len(names)
    assert job_name(order(), 1) == job_name(order(), 1)


WRONG = {
    "apiVersion: v1\nkind: Pod\n": "kind: it is a v1 Pod\n    Write a Job of apiVersion batch/v1.",
    "just text": "kind: it is a str",
    "kind: [": "is no YAML",
    "kind: Job\n---\nkind: Job\n": "is no YAML with one document",
    "apiVersion: batch/v1\nkind: Job\n": "spec: it is missing",
    "apiVersion: batch/v1\nkind: Job\nspec: []\n": "spec: it is a list",
    "apiVersion: batch/v1\nkind: Job\nspec:\n  template: {}\n": "spec.template.spec: it is missing",
    "apiVersion: batch/v1\nkind: Job\nspec: {template: {spec: {}}}\n": "spec.template.spec.containers: it is no list",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_is_no_job_is_refused_with_file_and_field_and_fix(tmp_path: Path, text: str) -> None:
    with pytest.raises(WrongSetting) as caught:
        template(tmp_path, text)
    assert str(caught.value).startswith(f"setting job.template: {tmp_path}/job.yaml: {WRONG[text]}")


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting, match=r"nothing\.yaml: can't be read"):
        JobTemplate(str(tmp_path / "nothing.yaml"))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("spec.backoffLimit", 4, "how often a training is tried is the setting attempts"),
        ("spec.parallelism", 2, "a training is one pod"),
        ("spec.template.spec.restartPolicy", "OnFailure", "Set it to Never"),
        ("metadata.labels", ["a"], "it is a list"),
    ],
)
def test_what_a_training_can_not_be_is_refused(
    tmp_path: Path, written: dict[str, Any], path: str, value: object, said: str
) -> None:
    *steps, last = path.split(".")
    part = job = copy.deepcopy(written)
    for step in steps:
        part = part[step]
    part[last] = value
    with pytest.raises(WrongSetting) as caught:
        template(tmp_path, job)
    assert f"job.yaml: {path}: it is" in str(caught.value)
    assert said in str(caught.value)


def test_of_several_containers_none_of_which_is_the_training_s_none_is_guessed(
    tmp_path: Path, written: dict[str, Any]
) -> None:
    written["spec"]["template"]["spec"]["containers"] = [{"name": "one"}, {"name": "two"}]
    with pytest.raises(WrongSetting, match='Name it "training"'):
        template(tmp_path, written)
