"""Which member of a group works off which partitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription


class TopicStickyAssignor(CooperativeStickyAssignor):
    """Cooperative and sticky (KIP-429), with two differences to kafka-python's own.

    Each topic is shared out by itself. Counted together, as there, a topic and its retries, which are nearly always
    empty, may be given to two members so that one has nothing to do.

    A member that was thought dead comes back and still says that it owns what it had. It is told from the one that has
    it now by the generation in which each got it (KIP-792); where both are believed, both work on it.
    """

    name = "duologue-topic-sticky"
    version = 2  # of the messages: the first that has the generation

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolSubscription:
        """What this member says when it joins."""
        said = super().metadata(topics)
        said.generation_id = self.generation
        return said

    def assign(self, cluster: Any, members: Iterable[Any]) -> dict[str, ConsumerProtocolAssignment]:
        """Partitions by member id; one that moves is given to nobody until its owner has let go of it."""
        metadata = {member.member_id: member.metadata for member in members}
        owned = _owned(metadata)
        shares: dict[str, list[tuple[str, list[int]]]] = defaultdict(list)
        for topic in sorted({topic for one in metadata.values() for topic in one.topics}):
            of_topic = [
                _Member(member_id, self._of_topic(topic, owned[member_id]))
                for member_id, one in metadata.items()
                if topic in one.topics
            ]
            for member_id, share in super().assign(cluster, of_topic).items():
                shares[member_id] += share.assigned_partitions
        return {member_id: ConsumerProtocolAssignment(self.version, shares[member_id], b"") for member_id in metadata}

    def _of_topic(self, topic: str, owned: Sequence[TopicPartition]) -> ConsumerProtocolSubscription:
        """What a member would say that takes part in one topic only."""
        numbers = [partition.partition for partition in owned if partition.topic == topic]
        of_topic = ConsumerProtocolSubscription.TopicPartition(topic=topic, partitions=numbers)
        return ConsumerProtocolSubscription(
            version=self.version, topics=[topic], user_data=b"", owned_partitions=[of_topic]
        )


class _Member(NamedTuple):
    member_id: str
    metadata: ConsumerProtocolSubscription


def _owned(metadata: Mapping[str, ConsumerProtocolSubscription]) -> dict[str, list[TopicPartition]]:
    """Partitions by member id, each of the member that got it last of those who say that it is theirs."""
    owners: dict[TopicPartition, str] = {}
    for member_id in sorted(metadata, key=lambda member_id: metadata[member_id].generation_id):
        for of_topic in metadata[member_id].owned_partitions:
            owners |= {TopicPartition(of_topic.topic, number): member_id for number in of_topic.partitions}
    owned: dict[str, list[TopicPartition]] = {member_id: [] for member_id in metadata}
    for partition, member_id in owners.items():
        owned[member_id].append(partition)
    return owned
