"""How fast dialogues go through Kafka, beside kafka-python alone on the same broker: `make bench`.

Services run as processes of their own, on one broker and PostgreSQL. Every figure is the median of the repeats.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import engine
import grpc
import results
import scenario
from cluster import PARTITIONS, Cluster, Service, cluster, service
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from raw_kafka import Raw, copy_scored
from results import Row
from stub_process import stub

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.bus.kafka.records import encode as as_kafka_has_it
from duologue.contracts.topics import (
    DATASET_SEALED,
    DIALOGUE_FILTERED,
    DIALOGUE_GENERATED,
    DIALOGUE_REQUESTED,
    DIALOGUE_SCORED,
)
from duologue.contracts.v1 import dialogue_pb2, events_pb2, filtering_pb2, filtering_pb2_grpc
from duologue.core.dialogue import Split, dialogue_id
from duologue.store import ArtifactStore, WorkflowStore

_SCORING = str(Path(__file__).with_name("scoring_process.py"))
_RAW = str(Path(__file__).with_name("raw_kafka.py"))
_WARM_UP = 500
_MOST_SECONDS = 120.0
_FILTERS = '[{"kind": "top", "metric": "words", "share": 0.25}]'

_INTAKE_FEW = 1000
_INTAKE_SECONDS = 30.0
_LATENCY_PAUSE_SECONDS = 0.1
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Passage:
    """Dialogues per second from the first that was scored to the last, and to the sealed dataset.

    `cpu`: microseconds that scoring and filtering took for each; the broker's and the database's are not among them.
    """

    scored: float
    sealed: float
    cpu: float


class Since:
    """What comes onto a topic from now on, and when it was written."""

    def __init__(self, server: str, topic: str) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=server, isolation_level="read_committed", group_id=None, fetch_max_wait_ms=20
        )
        places = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic)]
        self._consumer.assign(places)
        for place, end in self._consumer.end_offsets(places).items():
            self._consumer.seek(place, end)

    def times(self, count: int) -> dict[str, float]:
        """When the next `count` records were written, by key, in seconds since the epoch."""
        return self._next(count, lambda record: float(record.timestamp) / 1000)

    def arrivals(self, count: int) -> dict[str, float]:
        """When the next `count` records could be read, by key, in seconds since the epoch."""
        return self._next(count, lambda _: time.time())

    def _next(self, count: int, time_of: Callable[[Any], float]) -> dict[str, float]:
        found: dict[str, float] = {}
        deadline = time.monotonic() + _MOST_SECONDS
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} came"
            for records in self._consumer.poll(500).values():
                found |= {record.key.decode(): time_of(record) for record in records}
        return found

    def close(self) -> None:
        self._consumer.close()


def publish(server: str, records: Sequence[Record]) -> None:
    producer = KafkaProducer(bootstrap_servers=server, acks="all", batch_size=262_144)
    for record in records:
        topic, key, value, headers = as_kafka_has_it(record)
        producer.send(topic, value, key, headers)
    producer.flush()
    producer.close()


@asynccontextmanager
async def filtering(of: Cluster) -> AsyncIterator[Service]:
    async with service(of, "-m", "duologue_filtering", DATABASE__URL=of.database) as started:
        yield started


async def ask_for_dataset(at: Service, campaign: str, candidates: int) -> None:
    request = filtering_pb2.SealDatasetRequest(
        dataset_id=campaign, campaign_id=campaign, round=1, candidates=candidates, filters=_FILTERS
    )
    async with grpc.aio.insecure_channel(at.address) as channel:
        await filtering_pb2_grpc.FilteringServiceStub(channel).SealDataset(request)


def copies_of(event: events_pb2.DialogueGenerated, campaign: str, count: int) -> list[Record]:
    """The same dialogue under other names."""
    copies = []
    for index in range(count):
        name = dialogue_id(campaign, 1, Split.TRAINING, index)
        event.dialogue_id = event.dialogue.id = name
        event.dialogue.campaign_id = campaign
        copies.append(encode(DIALOGUE_GENERATED, event, "bench"))
    return copies


async def passage(of: Cluster, at: Service, event: events_pb2.DialogueGenerated, count: int) -> Passage:
    """Dialogues wait when scoring starts; filtering is there already."""
    campaign = str(uuid.uuid4())
    publish(of.server, copies_of(event, campaign, count))
    await ask_for_dataset(at, campaign, count)
    scored, sealed = Since(of.server, DIALOGUE_SCORED.name), Since(of.server, DATASET_SEALED.name)
    before = at.cpu
    async with service(of, _SCORING) as scoring:
        started = scoring.cpu
        at_last = (await asyncio.to_thread(sealed.times, 1))[campaign]
        cpu = scoring.cpu - started + at.cpu - before
        times = (await asyncio.to_thread(scored.times, count)).values()
    scored.close()
    sealed.close()
    return Passage(count / (max(times) - min(times)), count / (at_last - min(times)), 1e6 * cpu / count)


@contextmanager
def bare_topics(server: str, event: events_pb2.DialogueGenerated, count: int, others: int) -> Iterator[list[str]]:
    """A topic with as many dialogues, and empty ones behind it."""
    topics = [f"bench.{uuid.uuid4()}" for _ in range(1 + others)]
    admin = KafkaAdminClient(bootstrap_servers=server)
    shape = {"num_partitions": PARTITIONS, "replication_factor": 1}
    admin.create_topics(dict.fromkeys(topics, shape), wait_for_metadata=True)
    publish(server, [replace(record, topic=topics[0]) for record in copies_of(event, str(uuid.uuid4()), count)])
    yield topics
    admin.delete_topics(topics)
    admin.close()


def bare_passage(server: str, event: events_pb2.DialogueGenerated, count: int) -> Raw:
    """The same dialogues through kafka-python alone, from a topic to another one."""
    with bare_topics(server, event, count, 1) as (source, target):
        return copy_scored(server, source, target, count)


def bare_chain(server: str, event: events_pb2.DialogueGenerated, count: int) -> float:
    """Dialogues per second through two such loops, one behind the other as scoring and filtering are."""
    with bare_topics(server, event, count, 2) as topics:
        middle, last = Since(server, topics[1]), Since(server, topics[2])
        loops = [subprocess.Popen([sys.executable, _RAW, server, *places, str(count)]) for places in pairwise(topics)]
        ended = max(last.times(count).values())
        began = min(middle.times(count).values())
        assert [loop.wait() for loop in loops] == [0, 0]
        middle.close()
        last.close()
        return count / (ended - began)


async def throughput(of: Cluster, event: events_pb2.DialogueGenerated, count: int, repeats: int) -> list[Row]:
    passages: list[Passage] = []
    raws: list[Raw] = []
    chains: list[float] = []
    async with filtering(of) as at:
        await passage(of, at, event, _WARM_UP)
        for _ in range(repeats):
            passages.append(await passage(of, at, event, count))
            raws.append(await asyncio.to_thread(bare_passage, of.server, event, count))
            chains.append(await asyncio.to_thread(bare_chain, of.server, event, count))
    raw = Raw(statistics.median(one.per_second for one in raws), statistics.median(one.cpu for one in raws))
    scored, sealed, cpu = (
        statistics.median(getattr(one, figure) for one in passages) for figure in ("scored", "sealed", "cpu")
    )
    return [
        compared("kafka_generated_to_scored", scored, "dialogues/s", raw.per_second),
        compared("kafka_generated_to_sealed", sealed, "dialogues/s", raw.per_second),
        compared("kafka_two_raw_loops", statistics.median(chains), "dialogues/s", raw.per_second),
        compared("kafka_cpu_scoring_and_filtering", cpu, "us/dialogue", raw.cpu),
    ]


def compared(name: str, value: float, unit: str, baseline: float) -> Row:
    return Row(name, round(value), unit, round(baseline), round(value / baseline, 3))


async def latency(of: Cluster, event: events_pb2.DialogueScored, count: int) -> list[Row]:
    """From a scored dialogue to the decision on it, each dialogue a round of its own, ten a second."""
    campaigns = [str(uuid.uuid4()) for _ in range(count)]
    async with filtering(of) as at:
        for campaign in campaigns:
            await ask_for_dataset(at, campaign, 1)
        filtered = Since(of.server, DIALOGUE_FILTERED.name)
        arrivals = asyncio.create_task(asyncio.to_thread(filtered.arrivals, count))
        producer = KafkaProducer(bootstrap_servers=of.server, acks="all")
        departures: dict[str, float] = {}
        for campaign in campaigns:
            event.dialogue_id = event.dialogue.id = dialogue_id(campaign, 1, Split.TRAINING, 0)
            event.dialogue.campaign_id = campaign
            topic, key, value, headers = as_kafka_has_it(encode(DIALOGUE_SCORED, event, "bench"))
            departures[event.dialogue_id] = time.time()
            producer.send(topic, value, key, headers)
            await asyncio.sleep(_LATENCY_PAUSE_SECONDS)
        producer.close()
        came = await arrivals
        filtered.close()
    took = sorted(came[name] - departures[name] for name in departures)
    return [
        Row("kafka_scored_to_filtered_median", round(1000 * statistics.median(took)), "ms"),
        Row("kafka_scored_to_filtered_p99", round(1000 * took[math.ceil(0.99 * count) - 1]), "ms"),
    ]


async def intake(of: Cluster, models: str, queued: int) -> list[Row]:
    """What role-play holds while few and while many requests wait, and how soon it goes on after a stop."""
    workflow = WorkflowStore(ArtifactStore(str(of.folder / "artifacts"))).put(scenario.workflow())
    parts = ("MODELS__CLIENT", "MODELS__AGENT", "MODELS__MANAGER")
    settings = {f"{part}__URL": models for part in parts} | {f"{part}__MODEL": "stub" for part in parts}

    def request(count: int) -> None:
        publish(of.server, [encode(DIALOGUE_REQUESTED, one, "bench") for one in scenario.requests(count, workflow)])

    generated = Since(of.server, DIALOGUE_GENERATED.name)
    async with service(of, "-m", "duologue_roleplay", **settings) as roleplay:
        request(_INTAKE_FEW)
        few = await largest(roleplay, asyncio.create_task(asyncio.to_thread(generated.arrivals, _INTAKE_FEW)))
        await asyncio.to_thread(request, queued)
        many = await largest(roleplay, asyncio.create_task(asyncio.sleep(_INTAKE_SECONDS)))
    again = Since(of.server, DIALOGUE_GENERATED.name)
    began = time.time()
    async with service(of, "-m", "duologue_roleplay", **settings):
        resumed = min((await asyncio.to_thread(again.arrivals, 1)).values()) - began
    return [
        Row(f"kafka_intake_memory_{queued}", round(many / 2**20), "MiB", round(few / 2**20), round(many / few, 3)),
        Row(f"kafka_resume_{queued}", round(resumed, 1), "s"),
    ]


async def largest(of: Service, until: asyncio.Task[Any]) -> int:
    """The most that the service held until something was done."""
    most = of.memory
    while not until.done():
        await asyncio.wait({until}, timeout=_LOOK_SECONDS)
        most = max(most, of.memory)
    until.result()
    return most


async def run(options: argparse.Namespace) -> list[Row]:
    with cluster() as of, stub(0) as models:
        event = await engine.generated(models.url, of.folder)
        scored = events_pb2.DialogueScored(
            dialogue=event.dialogue, workflow=event.workflow, persona=event.persona, scores=dialogue_pb2.Scores(words=9)
        )
        return [
            *await throughput(of, event, options.dialogues, options.repeats),
            *await latency(of, scored, options.latencies),
            *await intake(of, models.url, options.queued),
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what goes through Kafka; writes bench/results.json.")
    parser.add_argument("--dialogues", type=int, default=10_000, help="dialogues that wait when scoring starts")
    parser.add_argument("--repeats", type=int, default=3, help="how often throughput is measured, taking turns")
    parser.add_argument("--latencies", type=int, default=300, help="dialogues whose way to a decision is timed")
    parser.add_argument("--queued", type=int, default=100_000, help="requests that wait for role-play")
    rows = asyncio.run(run(parser.parse_args()))
    results.keep("kafka", rows)
    results.show("Kafka; baselines: kafka-python in transactions, memory with 1,000 requests", rows)
