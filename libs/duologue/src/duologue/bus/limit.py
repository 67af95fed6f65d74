"""Telling a few bad records from a stream that this version can't read."""

from __future__ import annotations

import asyncio
from collections import deque

# The share is that of so many records, the last ones; of fewer than the other number it says nothing.
_WINDOW = 100
_FEWEST = 20


class DeadLetterLimit:
    """`exceeded` is set for good once more than `share`, in (0, 1], of the last records were dead letters."""

    def __init__(self, share: float) -> None:
        self.exceeded = asyncio.Event()
        self.share = share
        self._dead: deque[bool] = deque(maxlen=_WINDOW)

    def count(self, *, is_dead: bool) -> None:
        self._dead.append(is_dead)
        if len(self._dead) >= _FEWEST and sum(self._dead) > self.share * len(self._dead):
            self.exceeded.set()
