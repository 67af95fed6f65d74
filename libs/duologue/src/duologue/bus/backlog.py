"""What a member has read of a partition and handed to nobody yet."""

from __future__ import annotations

import heapq
import math
from collections import deque

from duologue.bus.record import LONGEST_WAIT_SECONDS, Delivery

# Of one partition; a process keeps them in memory.
MOST_WAITING = 500


class Backlog:
    """Records of one partition: those that are due in the order of the log, those that wait by their time.

    A record that waits lets the ones behind it pass, until `MOST_WAITING` do so.
    """

    def __init__(self) -> None:
        self._due: deque[Delivery] = deque()
        self._waiting: list[tuple[float, int, Delivery]] = []

    def __len__(self) -> int:
        """How many are due."""
        return len(self._due)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read, until one that waits is due."""
        return len(self._waiting) >= MOST_WAITING

    @property
    def due_at(self) -> float:
        """When the next that waits is due, in seconds since the epoch; infinite when none waits."""
        return self._waiting[0][0] if self._waiting else math.inf

    def add(self, delivery: Delivery, now: float) -> None:
        """`now` in seconds since the epoch."""
        if now < delivery.record.not_before <= now + LONGEST_WAIT_SECONDS:
            heapq.heappush(self._waiting, (delivery.record.not_before, delivery.offset, delivery))
        else:
            self._due.append(delivery)

    def ripen(self, now: float) -> None:
        """Those whose time has come are due."""
        while self._waiting and self._waiting[0][0] <= now:
            self._due.append(heapq.heappop(self._waiting)[2])

    def take(self) -> Delivery:
        """The next that is due. Raises IndexError when none is."""
        return self._due.popleft()
