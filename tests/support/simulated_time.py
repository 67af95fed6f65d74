"""An event loop whose clock jumps to the next thing that is due: hours pass in milliseconds, and always alike."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class SimulatedLoop(asyncio.SelectorEventLoop):
    """For what waits for time alone: there is no network in a simulated world."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        """The loop's own step, after a jump where nothing is to be done now."""
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_simulated(world: Coroutine[Any, Any, T]) -> T:
    """The outcome of `world`, whose time is the loop's."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(world)
