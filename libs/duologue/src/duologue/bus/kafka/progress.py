"""How far a group is in a partition, where records are finished out of order.

Kafka keeps one offset of a group and partition, and a text beside it. The offset is the lowest that is not finished;
the text says which of those above it are. Both are committed in the transaction that writes what a record causes, so
that after a crash no record is lost and none is done twice, whatever the order in which they were finished.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Collection

# From the committed offset to the position, at most: a bit each must fit the broker's offset.metadata.max.bytes (4096).
WIDEST = 16_384

_FORMAT = "b1:"


class Progress:
    """Which offsets of a partition were read and which of those are finished."""

    def __init__(self, committed: int, metadata: str = "") -> None:
        """As it was committed."""
        self.position = committed
        self._base = committed
        self._next_base = committed
        self._finished = _bits(metadata)
        self._unfinished: OrderedDict[int, None] = OrderedDict()

    @property
    def committed(self) -> int:
        """The lowest offset that is not finished."""
        return next(iter(self._unfinished), self.position)

    @property
    def is_wide(self) -> bool:
        """Whether nothing more should be read until what is oldest is finished."""
        return self.position - self.committed >= WIDEST

    @property
    def is_settled(self) -> bool:
        """Whether all that was read is finished, and reading has gone on past what is committed."""
        return not self._unfinished and self.position > self._base

    def read(self, offset: int) -> bool:
        """A record was read, the next in order; False when it was finished before."""
        self.position = offset + 1
        if self.is_finished(offset):
            return False
        self._unfinished[offset] = None
        return True

    def skip_to(self, position: int) -> None:
        """There is nothing more to read below `position`."""
        self.position = max(self.position, position)

    def is_finished(self, offset: int) -> bool:
        return offset < self._base or bool(self._finished >> (offset - self._base) & 1)

    def after(self, offsets: Collection[int]) -> tuple[int, str]:
        """The offset and the text to commit when `offsets`, which were read, are finished too."""
        committed = next((offset for offset in self._unfinished if offset not in offsets), self.position)
        finished = self._with(offsets) >> (committed - self._base)
        self._next_base = committed
        return committed, _text(finished)

    def finish(self, offsets: Collection[int]) -> None:
        """`offsets` were committed as `after` said when it was last asked; reading may have gone on since."""
        self._finished = self._with(offsets)
        for offset in offsets:
            self._unfinished.pop(offset, None)
        self.settle(self._next_base)

    def settle(self, committed: int) -> None:
        """`committed` was committed, below which nothing is unfinished."""
        self._finished >>= max(committed - self._base, 0)
        self._base = max(committed, self._base)

    def _with(self, offsets: Collection[int]) -> int:
        finished = self._finished
        for offset in offsets:
            if offset >= self._base:
                finished |= 1 << (offset - self._base)
        return finished


def is_finished(offset: int, committed: int, metadata: str) -> bool:
    """Whether what a group committed says that it is done with `offset`."""
    return Progress(committed, metadata).is_finished(offset)


def _text(finished: int) -> str:
    if not finished:
        return ""
    return _FORMAT + base64.b64encode(finished.to_bytes((finished.bit_length() + 7) // 8, "little")).decode()


def _bits(metadata: str) -> int:
    """0 for a text that is not ours: another tool may have set the group's offset."""
    if not metadata.startswith(_FORMAT):
        return 0
    try:
        return int.from_bytes(base64.b64decode(metadata[len(_FORMAT) :], validate=True), "little")
    except binascii.Error:
        return 0
