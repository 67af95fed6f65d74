"""What an operator sees of a mistake, and that mending it is all there is to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.brokers.cluster import KafkaCluster
from tests.support.eventually import soon
from tests.support.kubernetes import Namespace, require_cluster
from tests.support.local_stack import write_spec
from tests.support.release import Beside, Release, duologue

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def other(beside: Beside, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """A second release in the namespace of the first, with brokers of its own; not installed yet."""
    folder = tmp_path_factory.mktemp("other")
    kafka = KafkaCluster.start(folder / "kafka", host=require_cluster())
    release = Release.prepared("other", namespace, replace(beside, kafka=kafka), folder)
    yield release
    release.helm("uninstall", "--wait")
    kafka.close()


def test_with_a_wrong_secret_the_installation_says_so_and_goes_on_when_it_is_right(
    release: Release, other: Release, namespace: Namespace
) -> None:
    right = f"{other.beside.postgres.url}?options=-csearch_path%3Dother_campaign"
    namespace.secret("other-campaign-db", uri=right.replace("duologue@", "stranger@"))
    refused = other.helm("install", *other.arguments(), "--wait", "--timeout", "90s")
    assert refused.returncode != 0
    assert 'role "stranger" does not exist' in namespace.logs("prepare", "campaign-tables"), other.told()
    namespace.secret("other-campaign-db", uri=right)
    other.install()


def test_two_releases_in_one_namespace_keep_apart(release: Release, other: Release) -> None:
    for one in (release, other):
        with one.reached() as environment:
            assert duologue(environment, "campaign", "list", "--json").returncode == 0


def test_a_service_whose_topic_is_missing_names_it_and_an_upgrade_brings_it_back(
    other: Release, namespace: Namespace
) -> None:
    topic = "duologue.dialogue.scored.v1"
    other.beside.kafka.delete_topic(topic)
    mine = "app.kubernetes.io/instance=other,app.kubernetes.io/component=scoring"
    namespace.kubectl("delete", "pods", "--selector", mine)

    def is_told() -> bool:
        return topic in namespace.kubectl("logs", "--selector", mine, "--tail=50", status=None)

    soon(is_told, "the service names the topic", 120)
    other.install()


def test_a_model_server_that_is_not_there_stops_nothing_for_good(
    other: Release, namespace: Namespace, tmp_path: Path
) -> None:
    away = f"http://{require_cluster()}:9"
    other.install("--set", f"models.client.url={away}")
    spec = write_spec(tmp_path, "waits", dialogues=2, evaluation={"dialogues": 2})
    with other.reached() as environment:
        created = duologue(environment, "campaign", "create", spec, "--json")
        assert created.returncode == 0, created.stderr
        campaign_id = json.loads(created.stdout)["id"]
    mine = "app.kubernetes.io/instance=other,app.kubernetes.io/component=roleplay"

    def is_told() -> bool:
        return away in namespace.kubectl("logs", "--selector", mine, "--tail=100", status=None)

    soon(is_told, "the log names the server", 120)
    other.install()

    def goes_on() -> bool:
        with other.reached() as environment:
            done = duologue(environment, "dialogue", "list", campaign_id, "--json")
        return done.returncode == 0 and len(json.loads(done.stdout)["dialogues"]) >= 2

    soon(goes_on, "the campaign's dialogues are played", 300)
