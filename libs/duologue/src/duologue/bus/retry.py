"""When to try again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again, in seconds: exponential with jitter, until `deadline` after the first failure."""

    first: float = 0.5
    longest: float = 60.0
    deadline: float = 900.0

    def delay(self, attempt: int, jitter: float) -> float:
        """Before attempt number `attempt` + 1; `jitter` in [0, 1]."""
        ceiling = min(self.first * 2.0 ** min(attempt - 1, 30), self.longest)
        return ceiling * (0.5 + 0.5 * jitter)
