"""Who gets which partitions, while members come, go and come back, through the messages that brokers pass on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from duologue.bus.kafka.assignor import TopicStickyAssignor

TOPICS = {"input": 8, "input.retry": 8, "one": 1}
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=12)


class Member:
    """As the group sees it while it takes part, and with what it remembers when it was put out of the group."""

    def __init__(self) -> None:
        self.assignor = TopicStickyAssignor()
        self.held: set[TopicPartition] = set()


@dataclass
class Group:
    """Members by name; one that was put out and comes back is the same object."""

    topics: dict[str, int]
    known: dict[str, Member] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    generation: int = 0

    def join(self, *names: str) -> None:
        for name in names:
            self.members[name] = self.known.setdefault(name, Member())

    def put_out(self, name: str) -> None:
        """Nobody tells its assignor."""
        if member := self.members.pop(name, None):
            member.held = set()

    def settle(self) -> int:
        """How many rounds it takes until nobody has to let go of anything any more."""
        for count in range(1, 5):
            if not self._round():
                return count
        raise AssertionError("the group does not settle")

    def _round(self) -> bool:
        """Whether a member let go of a partition, so that all join again."""
        self.generation += 1
        shares = TopicStickyAssignor().assign(self._cluster(), self._joining())
        assert shares.keys() == self.members.keys()
        owners = {partition: name for name, member in self.members.items() for partition in member.held}
        let_go = False
        for name, share in shares.items():
            assignment = ConsumerProtocolAssignment.decode(share.encode())
            given_now = set(assignment.partitions())
            assert all(owners.get(partition, name) == name for partition in given_now), "given to two"
            member = self.members[name]
            let_go |= bool(member.held - given_now)
            member.held = given_now
            member.assignor.on_assignment(assignment, self.generation)
        return let_go

    def _joining(self) -> list[Any]:
        said = {name: member.assignor.metadata(set(self.topics)).encode() for name, member in self.members.items()}
        return [
            SimpleNamespace(member_id=name, metadata=ConsumerProtocolSubscription.decode(bytes_))
            for name, bytes_ in said.items()
        ]

    def _cluster(self) -> Any:
        return SimpleNamespace(
            topics=lambda: set(self.topics), partitions_for_topic=lambda topic: set(range(self.topics[topic]))
        )

    def held(self) -> dict[str, set[TopicPartition]]:
        return {name: set(member.held) for name, member in self.members.items()}

    def counts(self, topic: str) -> list[int]:
        return sorted(Counter(partition.topic for partition in held)[topic] for held in self.held().values())


def group_of(*names: str) -> Group:
    group = Group(TOPICS)
    group.join(*names)
    group.settle()
    return group


@given(CHANGES)
def test_whoever_comes_goes_and_comes_back_no_partition_has_two_owners_and_each_topic_is_shared_out_by_itself(
    changes: list[tuple[bool, int]],
) -> None:
    group = group_of("member-0")
    for comes, number in changes:
        if comes:
            group.join(f"member-{number}")
        elif len(group.members) > 1:
            group.put_out(f"member-{number}")
        group.settle()
        for topic, partitions in TOPICS.items():
            counts = group.counts(topic)
            assert sum(counts) == partitions
            assert counts[-1] - counts[0] <= 1


def test_who_comes_second_gets_half_of_the_topic_and_half_of_its_retries() -> None:
    group = group_of("first")
    group.join("second")
    assert group.settle() == 2
    assert group.counts("input") == group.counts("input.retry") == [4, 4]


def test_who_was_taken_for_dead_and_comes_back_owns_nothing_of_what_it_had() -> None:
    group = group_of("first", "second")
    group.put_out("first")
    group.settle()
    before = group.held()["second"]
    group.join("first")
    group._round()
    assert group.held() == {"first": set(), "second": group.held()["second"]}
    assert group.held()["second"] < before


def test_nothing_moves_where_nobody_came_or_went() -> None:
    group = group_of("first", "second", "third")
    before = group.held()
    assert group.settle() == 1
    assert group.held() == before


def test_who_stays_keeps_what_it_has_when_another_goes() -> None:
    group = group_of("first", "second", "third")
    before = group.held()
    group.put_out("second")
    assert group.settle() == 1
    assert all(before[name] <= held for name, held in group.held().items())
