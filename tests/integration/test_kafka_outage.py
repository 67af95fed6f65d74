"""What a cluster does to those who use it.

Its broker goes and comes back, its retention overtakes a group, a topic gets more partitions.
"""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, LogTruncationError, OffsetOutOfRangeError
from kafka.structs import MemberState
from prometheus_client import REGISTRY

from duologue.bus import Record
from duologue.bus.kafka.bus import KafkaBus
from duologue.bus.kafka.client import KafkaClients
from duologue.bus.kafka.options import KafkaOptions
from duologue.core.problems import WrongSetting
from tests.support.brokers.cluster import KafkaCluster, free_ports
from tests.support.bus_contract import PATIENCE_SECONDS, publish_round, record, take, values, work_off, written
from tests.support.eventually import eventually
from tests.support.proxy import Line

QUICK = KafkaOptions(session_seconds=3.0, handover_seconds=5.0)
OPTIONS = KafkaOptions(session_seconds=6.0, handover_seconds=5.0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    cluster = KafkaCluster.start(tmp_path_factory.mktemp("broker"))
    yield cluster
    cluster.close()


@pytest.fixture
def topic(cluster: KafkaCluster) -> str:
    name = f"test.{uuid.uuid4().hex}.v1"
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()
    return name


async def test_while_the_broker_is_away_nothing_is_lost_and_then_all_goes_on(cluster: KafkaCluster, topic: str) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    member = await bus.subscribe("readers", [topic])
    await bus.publish([record(topic, "before")])
    (held,) = await take(member, 1)

    cluster.signal(cluster.brokers[0], signal.SIGKILL)
    publishing = asyncio.create_task(bus.publish([record(topic, "during")]))
    finishing = asyncio.create_task(member.finish(held, [Record(topic, "one", b"caused")]))
    await asyncio.wait({publishing, finishing}, timeout=1.0)
    assert not publishing.done()
    assert not finishing.done()
    cluster.run(cluster.brokers[0])
    await asyncio.to_thread(cluster.wait)

    await asyncio.gather(publishing, finishing)
    await work_off(member, expected=["during", "caused"])
    assert sorted(await written(bus, topic)) == ["before", "caused", "during"]

    async def nothing_is_left() -> bool:
        return await bus.lag("readers", topic) == 0

    await eventually(nothing_is_left, "the group has nothing left")
    await bus.close()


async def test_who_follows_a_topic_hears_what_came_while_and_after_the_broker_was_away(
    cluster: KafkaCluster, topic: str
) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    await bus.publish([record(topic, "before")])
    heard: list[str] = []

    async def follow() -> None:
        async for batch in bus.follow(topic):
            heard.extend(values(batch))

    async def has_heard(value: str) -> bool:
        if following.done():
            following.result()
        return value in heard

    following = asyncio.create_task(follow())
    await eventually(lambda: has_heard("before"), "it follows")
    cluster.signal(cluster.brokers[0], signal.SIGKILL)
    publishing = asyncio.create_task(bus.publish([record(topic, "during")]))
    cluster.run(cluster.brokers[0])
    await asyncio.to_thread(cluster.wait)
    await publishing
    await eventually(lambda: has_heard("during"), "it hears what came during the outage")
    await bus.publish([record(topic, "after")])
    await eventually(lambda: has_heard("after"), "it goes on")
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()


async def test_who_follows_a_topic_goes_on_behind_what_retention_took_and_on_partitions_that_were_added(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    monkeypatch.setitem(bus._clients._common, "metadata_max_age_ms", 500)  # how soon new partitions are seen
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)

    async def delete_up_to(value: str) -> None:
        (place,) = [found.offset async for found in bus.read(topic) if values([found]) == [value]]
        await asyncio.to_thread(admin.delete_records, {TopicPartition(topic, 0): place})

    await bus.publish([record(topic, value) for value in ("gone", "first")])
    await delete_up_to("first")
    async with asyncio.timeout(PATIENCE_SECONDS), contextlib.aclosing(bus.follow(topic)) as batches:
        assert values(await anext(batches)) == ["first"]
        await bus.publish([record(topic, value) for value in ("gone too", "second")])
        await delete_up_to("second")
        heard = values(await anext(batches))
        assert heard[-1] == "second"
        await asyncio.to_thread(admin.create_partitions, {topic: 4})
        expected = await publish_round(bus, topic, "more")
        while not set(expected) <= set(heard):
            heard += values(await anext(batches))
    admin.close()
    await bus.close()


@pytest.mark.parametrize(
    "error", [KafkaConnectionError("socket disconnected"), OffsetOutOfRangeError({}), LogTruncationError({})], ids=repr
)
async def test_who_follows_a_topic_polls_again_after_an_error(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, error: KafkaError
) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    await bus.publish([record(topic, "before")])
    consumer = bus._clients.reader()
    poll, failures = consumer.poll, [error]

    def fail_once(**named: int) -> object:
        if failures:
            raise failures.pop()
        return poll(**named)

    monkeypatch.setattr(consumer, "poll", fail_once)
    monkeypatch.setattr(bus._clients, "reader", lambda: consumer)
    async with asyncio.timeout(PATIENCE_SECONDS), contextlib.aclosing(bus.follow(topic)) as batches:
        assert values(await anext(batches)) == ["before"]
        failures.append(error)
        await bus.publish([record(topic, "after")])
        while "after" not in values(await anext(batches)):
            assert failures == []
    assert failures == []
    await bus.close()


async def test_a_topic_that_is_not_there_can_not_be_followed_and_is_named(cluster: KafkaCluster) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    with pytest.raises(WrongSetting, match=r"topics are missing: test\.nowhere\.v1; `duologue topics apply`"):
        await anext(bus.follow("test.nowhere.v1"))
    await bus.close()


async def test_a_broker_that_hangs_up_before_it_says_a_word_refuses_nobody(tmp_path: Path) -> None:
    """As one that is about to start, behind a proxy: the cluster already sends us to it."""
    async with Line() as line:
        cluster = await asyncio.to_thread(KafkaCluster.start, tmp_path, fronts=[line])
        try:
            line.target, *_ = free_ports(1)
            clients = KafkaClients([f"127.0.0.1:{cluster.brokers[0].port}"], OPTIONS, "visitor")
            await asyncio.to_thread(clients.require_admission)
        finally:
            cluster.close()


async def test_a_group_that_retention_overtook_goes_on_behind_the_gap_and_the_gap_is_counted(
    cluster: KafkaCluster, topic: str
) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    member = await bus.subscribe("slow", [topic])
    await bus.publish([record(topic, "first")])
    (delivery,) = await take(member, 1)
    await member.finish(delivery)
    await member.close()

    for number in range(10):
        await bus.publish([record(topic, str(number))])
    places = [found.offset async for found in bus.read(topic)]
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): places[6]})
    admin.close()

    late = await bus.subscribe("slow", [topic])
    assert values(await take(late, 5)) == ["5", "6", "7", "8", "9"]
    gone = REGISTRY.get_sample_value("duologue_records_overtaken_total", {"topic": topic, "group": "slow"})
    # What was committed may be past the end of the first record's transaction, or not.
    assert gone in (places[6] - places[0] - 1, places[6] - places[0] - 2)
    await bus.close()


async def test_a_poll_that_fails_for_a_broker_that_hung_up_is_repeated(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await KafkaBus.open([cluster.bootstrap], OPTIONS)
    member = await bus.subscribe("patient", [topic])
    consumer = member._poller._consumer
    poll, failures = consumer.poll, [KafkaConnectionError("socket disconnected")]

    def fail_once(**named: int) -> object:
        if failures:
            raise failures.pop()
        return poll(**named)

    monkeypatch.setattr(consumer, "poll", fail_once)
    await bus.publish([record(topic, "after")])
    assert values(await take(member, 1)) == ["after"]
    assert failures == []
    await bus.close()


async def test_more_partitions_are_shared_out_among_the_members_that_are_there(
    cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buses = [await KafkaBus.open([cluster.bootstrap], QUICK) for _ in range(2)]
    for bus in buses:
        monkeypatch.setitem(bus._clients._common, "metadata_max_age_ms", 500)  # how soon new partitions are seen
    members = [await bus.subscribe("sharers", [topic]) for bus in buses]
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)

    async def names() -> set[str]:
        (group,) = (await asyncio.to_thread(admin.describe_groups, ["sharers"])).values()
        return {one["member_id"] for one in group["members"]} if group["group_state"] == "Stable" else set()

    async def both_are_in() -> bool:
        return len(await names()) == 2

    await eventually(both_are_in, "both take part")
    before = await names()
    await asyncio.to_thread(admin.create_partitions, {topic: 12})

    async def each_holds_half() -> bool:
        return all(len(member._held) == 6 for member in members)

    await eventually(each_holds_half, "each holds half of the partitions")
    await eventually(both_are_in, "both take part again")
    assert await names() == before
    for member in members:
        assert member._poller.membership.state is MemberState.STABLE
    admin.close()
    for bus in buses:
        await bus.close()
