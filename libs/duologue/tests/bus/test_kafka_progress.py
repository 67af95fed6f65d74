"""How far a group is in a partition, against a model that keeps sets."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.bus.kafka.progress import WIDEST, Progress, is_finished

# The broker's offset.metadata.max.bytes.
MOST_METADATA_BYTES = 4096


@given(
    start=st.integers(0, 1000),
    gaps=st.lists(st.integers(0, 3), max_size=60),
    seed=st.integers(0, 2**32),
    rounds=st.integers(1, 6),
)
def test_whatever_is_finished_in_whatever_order_nothing_is_lost_and_nothing_done_twice(
    start: int, gaps: list[int], seed: int, rounds: int
) -> None:
    """Each round ends with a crash: the next begins with what was committed."""
    draw = random.Random(seed)
    offsets, offset = [], start
    for gap in gaps:
        offset += gap  # what the ends of transactions take
        offsets.append(offset)
        offset += 1
    done: set[int] = set()
    committed, metadata = start, ""
    for _ in range(rounds):
        progress = Progress(committed, metadata)
        to_read = [offset for offset in offsets if offset >= committed]
        in_work: list[int] = []

        in_work += read_some(progress, to_read, done, draw)
        while in_work and draw.random() < 0.8:
            together = {in_work.pop() for _ in range(min(draw.randint(1, 4), len(in_work)))}
            committed, metadata = progress.after(together)
            in_work += read_some(progress, to_read, done, draw)  # while the broker commits
            for offset in together:
                progress.finish({offset})
            done |= together
            assert progress.is_settled == (progress.position > committed and not in_work)
            for offset in offsets:
                assert is_finished(offset, committed, metadata) == (offset in done)
                assert progress.is_finished(offset) == (offset in done)
        assert all(offset in done for offset in offsets if offset < committed)


def read_some(progress: Progress, to_read: list[int], done: set[int], draw: random.Random) -> list[int]:
    """What was not done yet of the next few."""
    new = []
    for _ in range(draw.randint(0, len(to_read))):
        offset = to_read.pop(0)
        if progress.read(offset):
            new.append(offset)
        else:
            assert offset in done
    draw.shuffle(new)
    return new


def test_the_position_is_committed_when_nothing_is_left() -> None:
    progress = Progress(5)
    assert not progress.is_settled
    for offset in (5, 6):
        progress.read(offset)
    progress.skip_to(8)
    assert progress.after({6})[0] == 5
    assert progress.after({5, 6}) == (8, "")
    progress.finish({5, 6})
    assert not progress.is_settled
    progress.skip_to(9)
    assert progress.is_settled
    progress.settle(9)
    assert not progress.is_settled
    assert progress.committed == 9


def test_what_is_committed_fits_into_what_a_broker_keeps() -> None:
    progress = Progress(0)
    for offset in range(WIDEST):
        assert not progress.is_wide
        progress.read(offset)
    assert progress.is_wide
    committed, metadata = progress.after(range(1, WIDEST))
    assert committed == 0
    assert len(metadata) <= MOST_METADATA_BYTES
    progress.finish(range(1, WIDEST))
    progress.finish({0})
    assert not progress.is_wide
    assert progress.committed == WIDEST


@pytest.mark.parametrize("metadata", ["", "somebody's note", "b1:%%%", "b1:", "b2:AAAA"])
def test_what_another_tool_wrote_beside_the_offset_finishes_nothing(metadata: str) -> None:
    assert [is_finished(offset, 7, metadata) for offset in (6, 7, 8)] == [True, False, False]
