"""How long a request goes on, in its place, when servers do not answer it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from duologue.models.connection import ModelUnavailable
from duologue.models.gate import TOO_MUCH, Gate

_FIRST_PAUSE_SECONDS = 0.2
# A server that is back has its dialogues back after so long.
_LONGEST_PAUSE_SECONDS = 5.0


class Patience:
    """How long one request goes on to be asked. Who waits for a server with much to do has no trouble yet."""

    def __init__(self, seconds: float, deadline: float | None, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._deadline = deadline
        self._clock = clock
        self._began = clock()
        self._over_at = math.inf
        self._failures = 0
        self._error: ModelUnavailable | None = None

    def is_over(self, gate: Gate) -> bool:
        """It ends so long after the request's first failure, or when its server has refused all others for so long."""
        now = self._clock()
        if now >= self._over_at:
            return True
        return gate.is_closed and min(now - self._began, gate.closed_seconds) >= self._seconds

    def trouble(self, url: str) -> ModelUnavailable:
        """What it ended with, at that server."""
        return self._error or ModelUnavailable(f"{url} has refused all requests for {self._seconds:g} seconds")

    def pause_after(self, error: ModelUnavailable, servers: int) -> float | None:
        """Seconds until the request is asked again, of each server once before the pause; None for no more.

        There is none after a refusal: the server's gate is closed for as long as need be.
        """
        self._failures += 1
        self._error = error
        self._over_at = min(self._over_at, self._clock() + self._seconds)
        left = self._over_at - self._clock()
        if self._deadline is not None:
            left = min(left, self._deadline - asyncio.get_running_loop().time())
        between = error.status in TOO_MUCH or self._failures % servers
        pause = 0.0 if between else _pause(self._failures // servers)
        return pause if pause < left else None


def _pause(time: int) -> float:
    """Seconds before the next try: twice as long each time, and never two alike."""
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(time, 30), _LONGEST_PAUSE_SECONDS) * (0.5 + 0.5 * random.random())
