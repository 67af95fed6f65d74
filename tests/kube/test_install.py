"""The chart on a real Kubernetes: installed, used, upgraded in the middle of a campaign, broken, mended, removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.eventually import soon
from tests.support.kubernetes import Namespace, made_namespace
from tests.support.local_stack import write_spec
from tests.support.release import SERVICES, Beside, Release, duologue

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def campaign(release: Release, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A campaign that was run to its end while the release was upgraded, rolled back, and lost pods."""
    spec = write_spec(tmp_path_factory.mktemp("spec"), "loop", concurrency=4)
    with release.reached() as environment:
        created = duologue(environment, "campaign", "create", spec, "--json")
        assert created.returncode == 0, created.stderr
        campaign_id = json.loads(created.stdout)["id"]
    some_are_generated(release, campaign_id)
    release.install("--set", "services.roleplay.settings.concurrency=3")
    release.namespace.kubectl("delete", "pods", "--selector", "app.kubernetes.io/component in (roleplay,scoring)")
    release.helm("rollback", "1", "--wait")
    release.namespace.kubectl("delete", "pods", "--selector", "app.kubernetes.io/component in (campaign,filtering)")

    def is_over() -> bool:
        campaign = shown(release, campaign_id)
        return bool(campaign and campaign["finished_at"])

    soon(is_over, "the campaign has ended", 900)
    return shown(release, campaign_id)


def shown(release: Release, campaign_id: str) -> dict[str, Any]:
    """The campaign; empty while the control plane can't be reached."""
    with release.reached() as environment:
        done = duologue(environment, "campaign", "show", campaign_id, "--json")
    return json.loads(done.stdout) if done.returncode == 0 else {}


def some_are_generated(release: Release, campaign_id: str) -> None:
    def claim() -> bool:
        with release.reached() as environment:
            done = duologue(environment, "dialogue", "list", campaign_id, "--json")
        return done.returncode == 0 and len(json.loads(done.stdout)["dialogues"]) >= 2

    soon(claim, "some dialogues are there", 300)


def test_every_service_is_ready_and_restricted_pod_security_has_no_complaint(release: Release) -> None:
    assert "Warning" not in release.install()
    pods = release.namespace.get("pods", "--selector", "app.kubernetes.io/instance=duo")
    ready = {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for pod in pods
        if {"type": "Ready", "status": "True"}.items() <= _condition(pod, "Ready").items()
    }
    assert ready >= set(SERVICES), release.told()


def _condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((item for item in pod["status"].get("conditions", []) if item["type"] == kind), {})


def test_helm_test_asks_the_control_plane(release: Release) -> None:
    done = release.helm("test")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{release.namespace.logs('test')}"


def test_a_campaign_loses_no_dialogue_while_the_release_is_upgraded_rolled_back_and_loses_pods(
    campaign: dict[str, Any], release: Release
) -> None:
    (round_,) = campaign["history"]
    assert campaign["state"] == "CAMPAIGN_STATE_COMPLETED", campaign["reason"]
    assert (round_["candidates"], round_["kept"], round_["dropped"]) == (12, 6, 6)
    assert round_["evaluation"]["reason"]
    with release.reached() as environment:
        listed = duologue(environment, "dialogue", "list", campaign["id"], "--json")
    ids = [record["dialogue"]["id"] for record in json.loads(listed.stdout)["dialogues"]]
    assert len(ids) == len(set(ids)) == 12 + 2 * 3


def test_the_training_was_a_job(campaign: dict[str, Any], release: Release) -> None:
    jobs = release.namespace.get("jobs", "--selector", "app.kubernetes.io/component=training-job")
    assert [job["status"].get("succeeded") for job in jobs] == [1], release.told()
    adapter = campaign["history"][0]["adapter_id"]
    assert (release.beside.artifacts / "adapters" / adapter / "training.json").exists()


def test_uninstall_leaves_nothing_behind(beside: Beside, tmp_path: Path) -> None:
    namespace = made_namespace("duologue-gone")
    gone = Release.prepared("gone", namespace, beside, tmp_path)
    before = kinds_in(namespace)
    gone.install()
    assert gone.helm("test").returncode == 0
    gone.helm("uninstall", "--wait")
    soon(lambda: not namespace.get("pods"), "the pods are gone", 120)
    assert kinds_in(namespace) == before


def kinds_in(namespace: Namespace) -> set[str]:
    kinds = "all,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,jobs"
    return set(namespace.kubectl("get", kinds, "-o", "name").split())
