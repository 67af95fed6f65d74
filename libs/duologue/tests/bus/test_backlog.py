"""What a member has read and not handed out."""

from duologue.bus import Delivery, Record
from duologue.bus.backlog import MOST_WAITING, Backlog


def delivery(offset: int, not_before: float = 0.0) -> Delivery:
    return Delivery(Record("topic", "key", b"", not_before=not_before), 0, offset)


def offsets(backlog: Backlog) -> list[int]:
    return [backlog.take().offset for _ in range(len(backlog))]


def test_what_is_due_passes_what_waits_and_comes_in_the_order_of_the_log() -> None:
    backlog = Backlog()
    for offset, not_before in enumerate((50, 0, 101, 100, 0)):
        backlog.add(delivery(offset, not_before), now=100)
    assert offsets(backlog) == [0, 1, 3, 4]


def test_what_waits_is_due_at_its_time_the_earliest_first() -> None:
    backlog = Backlog()
    for offset, not_before in enumerate((130, 110, 120, 110)):
        backlog.add(delivery(offset, not_before), now=100)
    backlog.ripen(now=109.9)
    assert offsets(backlog) == []
    backlog.ripen(now=120)
    assert offsets(backlog) == [1, 3, 2]
    backlog.ripen(now=1000)
    assert offsets(backlog) == [0]


def test_no_more_wait_in_memory_than_the_limit() -> None:
    backlog = Backlog()
    for offset in range(MOST_WAITING):
        assert not backlog.is_full
        backlog.add(delivery(offset, not_before=200 + offset), now=100)
    assert backlog.is_full
    backlog.ripen(now=200)
    assert not backlog.is_full
