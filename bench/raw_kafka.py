"""The baseline on Kafka: kafka-python consumes, transforms and produces in transactions, and nothing else.

As a process of its own: `python bench/raw_kafka.py SERVER SOURCE TARGET COUNT`.
"""

from __future__ import annotations

import sys
import time
import uuid
from dataclasses import dataclass

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata

from duologue.contracts.v1 import dialogue_pb2, events_pb2

_MOST_AT_ONCE = 500


@dataclass(frozen=True)
class Raw:
    """Dialogues per second, and microseconds of CPU that this process took for each, the broker's not among them."""

    per_second: float
    cpu: float


def copy_scored(server: str, source: str, target: str, count: int) -> Raw:
    """Dialogues from `source` to `target`, each with the same scores, from the first poll that gives any.

    Offsets are committed with what was produced, as one that loses nothing must; there are no retries, no dead letters,
    no order of keys, no back-pressure and one dialogue after the other.
    """
    group = uuid.uuid4().hex
    consumer = KafkaConsumer(
        source,
        bootstrap_servers=server,
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = KafkaProducer(
        bootstrap_servers=server, transactional_id=group, acks="all", batch_size=262_144, retry_backoff_ms=20
    )
    producer.init_transactions()
    done, began, cpu = 0, 0.0, 0.0
    while done < count:
        read = consumer.poll(1000, max_records=_MOST_AT_ONCE)
        if not read:
            continue
        if not began:
            began, cpu = time.perf_counter(), time.process_time()
        producer.begin_transaction()
        for record in (record for records in read.values() for record in records):
            producer.send(target, _scored(record.value), record.key, headers=record.headers)
        offsets = {place: OffsetAndMetadata(records[-1].offset + 1) for place, records in read.items()}
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()
        done += sum(len(records) for records in read.values())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    consumer.close()
    producer.close()
    return Raw(done / seconds, 1e6 * cpu / done)


def _scored(value: bytes) -> bytes:
    event = events_pb2.DialogueGenerated.FromString(value)
    return events_pb2.DialogueScored(
        dialogue_id=event.dialogue_id,
        dialogue=event.dialogue,
        scores=dialogue_pb2.Scores(words=100),
        workflow=event.workflow,
        persona=event.persona,
    ).SerializeToString()


if __name__ == "__main__":
    copy_scored(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
