"""Where topics end and how far groups are, as the brokers know it."""

from __future__ import annotations

from kafka import KafkaAdminClient, OffsetSpec, TopicPartition


def ends_of(admin: KafkaAdminClient, topic: str) -> dict[TopicPartition, int]:
    """The offset behind the last record by partition, open transactions included; empty for a topic that is not there.

    A consumer's `end_offsets` would stop at the first open transaction, and all behind it would seem not to be there.
    """
    return _offsets(admin, _partitions(admin, topic), OffsetSpec.LATEST)


def lag_of(admin: KafkaAdminClient, group: str, topic: str) -> int:
    """Offsets that the group has not committed."""
    ends = ends_of(admin, topic)
    if not ends:
        return 0
    beginnings = _offsets(admin, list(ends), OffsetSpec.EARLIEST)
    committed = admin.list_group_offsets({group: list(ends)})[group]
    done = {partition: at.offset for partition, at in committed.items() if at.offset >= 0}
    return sum(max(end - done.get(partition, beginnings[partition]), 0) for partition, end in ends.items())


def _partitions(admin: KafkaAdminClient, topic: str) -> list[TopicPartition]:
    if topic not in admin.list_topics():
        return []
    (description,) = admin.describe_topics([topic])
    return sorted(TopicPartition(topic, partition["partition_index"]) for partition in description["partitions"])


def _offsets(admin: KafkaAdminClient, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
    if not partitions:
        return {}
    found = admin.list_partition_offsets(dict.fromkeys(partitions, spec))
    return {partition: found[partition].offset for partition in partitions}
