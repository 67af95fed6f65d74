"""The chart, without a cluster: what it makes of a dozen ways to run Duologue, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from duologue_campaign.settings import Settings as CampaignSettings
from duologue_filtering.settings import Settings as FilteringSettings
from duologue_roleplay.settings import Settings as RoleplaySettings
from duologue_scoring.settings import Settings as ScoringSettings
from duologue_training.settings import Settings as TrainingSettings
from tests.support.helm import CHART, helm, rendered
from tests.support.requirements import ROOT

VALUES = sorted(Path(__file__).parent.joinpath("values").glob("*.yaml"))
SNAPSHOTS = Path(__file__).parent / "snapshots"
MINIMAL = VALUES[0].with_name("minimal.yaml")
SETTINGS = {
    "campaign": CampaignSettings,
    "roleplay": RoleplaySettings,
    "scoring": ScoringSettings,
    "filtering": FilteringSettings,
    "training": TrainingSettings,
}
KUBERNETES = "1.34"
CUSTOM = {"keda.sh", "monitoring.coreos.com", "gateway.networking.k8s.io"}
with_each = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)


def pod_specs(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the chart has made, sooner or later; the Job of a training lies in a ConfigMap."""
    for document in documents:
        name = f"{document['kind']} {document['metadata'].get('name', '')}"
        if document["kind"] == "Pod":
            yield name, document["spec"]
        elif document["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield name, document["spec"]["template"]["spec"]
        elif document["kind"] == "ConfigMap" and "job.yaml" in document["data"]:
            yield name, yaml.safe_load(document["data"]["job.yaml"])["spec"]["template"]["spec"]


def containers(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in pod_specs(documents):
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            yield f"{name}, {container['name']}", container


@with_each
def test_helm_finds_nothing_to_complain_of(values: Path) -> None:
    done = helm("lint", CHART, "--strict", "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


@with_each
def test_objects_are_what_kubernetes_takes(values: Path) -> None:
    """By its own schemas, with no field that is not known. Custom resources meet a cluster, in tests/kube."""
    for document in rendered(values):
        for known in (document, *_jobs_in(document)):
            if known["apiVersion"].partition("/")[0] not in CUSTOM:
                kubernetes_validate.validate(known, KUBERNETES, strict=True)


def _jobs_in(document: dict[str, Any]) -> list[Any]:
    return [yaml.safe_load(text) for name, text in document.get("data", {}).items() if name == "job.yaml"]


@with_each
def test_pods_keep_to_restricted_pod_security(values: Path) -> None:
    documents = rendered(values)
    for name, spec in pod_specs(documents):
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}, name
    for name, container in containers(documents):
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["readOnlyRootFilesystem"], name
        assert not security["allowPrivilegeEscalation"], name


@with_each
def test_containers_have_limits_and_images_a_version(values: Path) -> None:
    for name, container in containers(rendered(values)):
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["requests"]["cpu"], name
        version = container["image"].rpartition("/")[2].partition(":")[2]
        assert version, f"{name}: {container['image']} has no version"
        assert version != "latest", name


@with_each
def test_what_runs_for_long_is_probed(values: Path) -> None:
    for document in rendered(values):
        if document["kind"] in ("Deployment", "StatefulSet"):
            for container in document["spec"]["template"]["spec"]["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), document["metadata"]


@with_each
def test_only_the_training_service_may_ask_kubernetes(values: Path) -> None:
    may = {name for name, spec in pod_specs(rendered(values)) if spec["automountServiceAccountToken"]}
    assert len(may) == 1
    assert next(iter(may)).endswith("training")


@with_each
def test_services_take_the_settings_that_the_chart_writes(values: Path) -> None:
    configs = {d["metadata"]["name"]: d["data"] for d in rendered(values) if d["kind"] == "ConfigMap"}
    for service, settings in SETTINGS.items():
        (file,) = [data["settings.yaml"] for name, data in configs.items() if name.endswith(f"-{service}")]
        given = yaml.safe_load(file)
        if given["kafka"].get("mechanism"):  # comes from a secret, by the environment
            given["kafka"] |= {"username": "somebody", "password": "something"}
        settings.model_validate(given)


@with_each
def test_nothing_secret_is_written_down(values: Path) -> None:
    for name, container in containers(rendered(values)):
        for variable in container.get("env", []):
            if any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "KEY", "DATABASE")):
                assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"


@with_each
def test_nothing_of_two_releases_in_one_namespace_has_the_same_name(values: Path) -> None:
    if "fullnameOverride" in values.read_text():
        pytest.skip("named by hand")
    one, other = (
        {(document["kind"], document["metadata"]["name"]) for document in rendered(values, release=release)}
        for release in ("one", "other")
    )
    assert not one & other


@with_each
def test_pods_of_a_release_are_reached_by_its_own_policies_and_budgets_alone(values: Path) -> None:
    for document in rendered(values, release="red"):
        if document["kind"] == "NetworkPolicy":
            selector = document["spec"]["podSelector"]
        elif document["kind"] in ("PodDisruptionBudget", "PodMonitor", "Deployment", "StatefulSet"):
            selector = document["spec"]["selector"]
        else:
            continue
        assert selector["matchLabels"]["app.kubernetes.io/instance"] == "red", document["metadata"]


@with_each
def test_what_it_makes_is_what_was_looked_at(values: Path) -> None:
    """With UPDATE_SNAPSHOTS=1 they are written anew: look at what git says has changed. Dashboards are left out."""
    shown = ("--values", values, "--set", "monitoring.dashboards.enabled=false")
    made = helm("template", "duo", CHART, "--namespace", "team", *shown).stdout
    snapshot = SNAPSHOTS / values.name
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        snapshot.write_text(made)
    assert made == snapshot.read_text()


WRONG = {
    "kafka.brokers=": "kafka.brokers: host:port of the Kafka brokers.",
    "kafka.brokers=kafka": "kafka/brokers",
    "image.registry=": "image.registry: where are the images?",
    "image.tag=latest": "image.tag: latest is another image every day",
    "image.tags=1": "tags",
    "image.pullPolicy=Sometimes": "pullPolicy",
    "kafka.sasl.mechanism=SCRAM-SHA-512": "kafka.sasl: SCRAM-SHA-512 needs username and password.existingSecret.",
    "kafka.sasl.mechanism=MAGIC": "mechanism",
    "kafka.tls.certificate=mine": "kafka.tls: ca and certificate are for encryption, which is off",
    "database.campaign.existingSecret=": "database.campaign.existingSecret: the secret with the URL of its database.",
    "database.campaign.existingSecret=My_Secret": "existingSecret",
    "database.campaign.url=postgresql://u:p@h/d": "url",
    "artifacts.url=": "artifacts.url: s3://bucket/prefix",
    "artifacts.url=s3://key:secret@bucket": "artifacts/url",
    "artifacts.url=/artifacts": "artifacts.existingClaim: artifacts.url is a folder",
    "artifacts.existingClaim=volume": "artifacts.url: with artifacts.existingClaim it is the folder",
    "models.client.url=": "models.client: name a server under modelServers, or give the url",
    "models.client.url=client:8080": "models/client/url",
    "models.client.server=client": "models.client: server or url, not both.",
    "models.judge.server=judge": 'models.judge.server: there is no "judge" under modelServers (which is empty).',
    "modelServers.a.engine=tgi": "modelServers.a.image: with its tag",
    "modelServers.a.engine=ollama": "engine",
    "modelServers.A_B.engine=tgi": "A_B",
    "services.roleplay.replicas=many": "replicas",
    "services.roleplay.replica=2": "replica",
    "services.roleplay.resources.limits.memory=lots": "memory",
    "services.roleplay.scaling.min=1,services.roleplay.scaling.max=2": "services.roleplay.scaling: say by whom",
    "autoscaling=keda,services.scoring.scaling.min=3,services.scoring.scaling.max=2": "scoring.scaling: min is above",
    "autoscaling=hpa,services.scoring.scaling.min=0,services.scoring.scaling.max=2": "0 needs autoscaling: keda.",
    "autoscaling=magic": "autoscaling",
    "services.training.graceSeconds=0": "graceSeconds",
    "services.training.job.gpus=-1": "gpus",
    "grpc.requireClientCertificate=true": "grpc.requireClientCertificate: needs grpc.tlsSecret.",
    "traces.sample=2": "sample",
    "scoring.replicas=2": "scoring",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_and_named(wrong: str) -> None:
    done = helm("template", "duo", CHART, "--values", MINIMAL, "--set", wrong)
    assert done.returncode != 0
    assert WRONG[wrong] in done.stderr


def test_all_that_is_missing_is_told_at_once() -> None:
    done = helm("template", "duo", CHART)
    assert done.returncode != 0
    for value in (
        "image.registry",
        "kafka.brokers",
        "database.campaign",
        "artifacts.url",
        "models.client",
        "models.agent",
    ):
        assert f"- {value}" in done.stderr


def test_the_schema_the_page_of_values_alerts_and_dashboards_are_those_of_the_code(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "helm/generate.py", tmp_path], check=True)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(made) >= 6
    for name in made:
        assert (tmp_path / name).read_text() == (CHART / name).read_text(), f"make docs: {name} is not what is made"


def test_values_yaml_has_every_value_with_the_default_that_the_page_tells() -> None:
    code = "from values import Values; print(Values().model_dump_json(by_alias=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "helm", check=True, capture_output=True, text=True)
    assert yaml.safe_load((CHART / "values.yaml").read_text()) == yaml.safe_load(done.stdout)
