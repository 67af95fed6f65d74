"""`duologue topics` and `duologue dlq` against a real broker."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from duologue.bus import Record, open_bus
from duologue.bus.codec import encode
from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.worker import FAILED_AT, ORIGIN, REASON
from duologue.contracts.topics import DIALOGUE_SCORED, TOPICS
from tests.support.brokers.cluster import KafkaCluster
from tests.support.command import duologue
from tests.support.eventually import soon

SCORED = DIALOGUE_SCORED.name
RETRY = DIALOGUE_SCORED.retry("filtering")
DEAD = DIALOGUE_SCORED.dead_letters("filtering")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A broker that has nothing of ours."""
    cluster = KafkaCluster.start(tmp_path_factory.mktemp("kafka"))
    yield cluster
    cluster.close()


@pytest.fixture
def admin(cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[KafkaAdminClient]:
    monkeypatch.setenv("DUOLOGUE_BUS_URL", f"kafka://{cluster.bootstrap}")
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    yield admin
    admin.close()


def partitions(admin: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}


def retention(admin: KafkaAdminClient, topic: str) -> str:
    return admin.describe_configs([ConfigResource("TOPIC", topic)])["topic"][topic]["retention.ms"]["value"]


def test_more_copies_than_brokers_are_refused_with_the_topic(admin: KafkaAdminClient) -> None:
    done = duologue("topics", "apply", "--replicas", 3)
    assert done.status == 2
    assert done.err.startswith(f"{TOPICS[0].name} can't be mended: Replication-factor is invalid")
    assert TOPICS[0].name not in admin.list_topics()


def test_a_cluster_is_given_what_is_missing_and_nothing_is_taken_away(admin: KafkaAdminClient) -> None:
    planned = duologue("topics", "plan", "--json")
    assert planned.status == 0
    names = {difference["topic"] for difference in planned.json["differences"]}
    assert {topic.name for topic in TOPICS} < names
    assert {RETRY, DIALOGUE_SCORED.dead_letters("campaign"), "duologue.dlq.replays.v1"} < names
    assert {difference["kind"] for difference in planned.json["differences"]} == {"missing"}
    assert duologue("topics", "check").status == 1
    assert not names & set(admin.list_topics())

    applied = duologue("topics", "apply")
    assert applied.status == 0, applied.err
    assert f"mended  {SCORED} is missing: 24 partitions, 1 replicas" in applied.out
    assert names <= set(admin.list_topics())
    assert "All topics are as they should be." in duologue("topics", "check").out
    again = duologue("topics", "apply")
    assert (again.status, "mended" in again.out) == (0, False)

    # What somebody changed is corrected, and what can't be is said.
    admin.alter_configs([ConfigResource("TOPIC", SCORED, {"retention.ms": "1000"})])
    admin.create_partitions({RETRY: 30})
    soon(lambda: partitions(admin)[RETRY] == 30 and retention(admin, SCORED) == "1000", "the broker has heard of both")
    differences = duologue("topics", "plan", "--json").json["differences"]
    assert {(difference["topic"], difference["kind"]) for difference in differences} == {
        (SCORED, "setting"),
        (RETRY, "more_partitions"),
    }
    mended = duologue("topics", "apply")
    assert mended.status == 0
    assert f"mended  {SCORED} has retention.ms=1000, should have 604800000" in mended.out
    assert f"{RETRY} has 30 partitions, more than 24 (left alone)" in mended.out
    assert partitions(admin)[RETRY] == 30

    # More partitions are added, fewer are not taken.
    assert duologue("topics", "apply", "--partitions", 26).status == 0
    assert partitions(admin)[SCORED] == 26
    assert duologue("topics", "apply", "--partitions", 4).status == 0
    assert partitions(admin)[SCORED] == 26

    # Another number of copies is the business of who runs the cluster.
    copies = duologue("topics", "apply", "--replicas", 2, "--partitions", 26)
    assert copies.status == 1
    assert f"{SCORED} has 1 replicas, should have 2 (left alone)" in copies.out


async def publish_and_read(url: str, records: list[Record], topic: str) -> list[Record]:
    bus = await open_bus(url, KafkaOptions())
    try:
        await bus.publish(records)
        return [delivery.record async for delivery in bus.read(topic)]
    finally:
        await bus.close()


def test_dead_letters_are_listed_shown_and_given_back_once(admin: KafkaAdminClient, cluster: KafkaCluster) -> None:
    assert duologue("topics", "apply").status == 0
    url = f"kafka://{cluster.bootstrap}"
    scored = encode(DIALOGUE_SCORED, DIALOGUE_SCORED.example, "test")
    headers = {REASON: "it can't be read", ORIGIN: f"{SCORED}/3/7", FAILED_AT: "1800000000.5"}
    whole = replace(scored, topic=DEAD, headers={**scored.headers, **headers})
    broken = replace(whole, key="broken", value=b"\xff\xff")
    assert len(asyncio.run(publish_and_read(url, [whole, broken], DEAD))) == 2

    letters = {letter["key"]: letter for letter in duologue("dlq", "list", "--json").json["dead_letters"]}
    assert letters[whole.key]["reason"] == "it can't be read"
    assert letters[whole.key]["origin"] == f"{SCORED}/3/7"
    assert "Hello, this is the parcel desk." in duologue("dlq", "show", letters[whole.key]["id"]).out
    assert "message: ffff" in duologue("dlq", "show", letters["broken"]["id"]).out

    assert duologue("dlq", "replay", letters[whole.key]["id"]).out == "Replayed 1\n"
    assert duologue("dlq", "replay", "--all").out == "Replayed 1\n"
    assert duologue("dlq", "replay", "--all").out == "Replayed 0\n"
    again = {record.key: record for record in asyncio.run(publish_and_read(url, [], RETRY))}
    assert again.keys() == {whole.key, "broken"}
    assert again[whole.key].value == scored.value
    assert REASON not in again[whole.key].headers


@pytest.mark.parametrize("url", ["sqlite:///bus.db", "kafka://", "kafka://127.0.0.1:1"])
def test_what_is_no_cluster_is_said_with_the_setting(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DUOLOGUE_BUS_URL", url)
    done = duologue("topics", "check")
    assert done.status == 2
    assert "bus" in done.err
