"""What is said after topics were mended."""

from unittest.mock import Mock

import pytest

from duologue.bus.kafka import topics as module
from duologue.bus.kafka.topics import Difference, Topics, wanted_topics

WANTED = wanted_topics(1)[0]
FEWER = Difference("partitions", WANTED, "has 3 partitions, should have 24")
OTHER_COPIES = Difference("replicas", WANTED, "has 3 replicas, should have 1")


class LateTopics(Topics):
    """A cluster whose brokers hear of a change only when they have been asked so often."""

    def __init__(self, asked_in_vain: int) -> None:
        super().__init__(Mock())
        self._in_vain = asked_in_vain

    def compare(self, replicas: int = 0, partitions: int = 0) -> list[Difference]:
        self._in_vain -= 1
        return [FEWER, OTHER_COPIES] if self._in_vain >= 0 else [OTHER_COPIES]


def test_a_broker_that_hears_late_of_a_change_is_waited_for() -> None:
    assert LateTopics(asked_in_vain=3).compare_mended() == [OTHER_COPIES]


def test_what_was_mended_in_vain_is_said_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HEARD_SECONDS", 0.1)
    assert LateTopics(asked_in_vain=10**9).compare_mended() == [FEWER, OTHER_COPIES]
