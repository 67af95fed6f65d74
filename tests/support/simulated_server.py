"""Model servers of a simulated world: how long an answer takes, and what is refused, by how many are asked at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from duologue.models import Caller
from duologue.models.connection import ModelUnavailable
from duologue.models.gate import Gate


@dataclass
class SimulatedServer:
    """`seconds`: of an answer, by the number of requests under way when it begins. `spread`: its standard deviation as
    a share, of a lognormal. `refuses_beyond`: 429 for what comes on top of so many.
    """

    seconds: Callable[[int], float]
    spread: float = 0.0
    refuses_beyond: int = 1_000_000
    retry_after: float = 0.0
    running: int = 0
    busiest: int = 0
    answered: int = 0
    refused: int = 0
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    async def ask(self) -> None:
        if self.running >= self.refuses_beyond:
            self.refused += 1
            raise ModelUnavailable("busy", self.retry_after, 429)
        self.running += 1
        self.busiest = max(self.busiest, self.running)
        try:
            await asyncio.sleep(self.seconds(self.running) * self.draw.lognormvariate(0, self.spread))
        finally:
            self.running -= 1
        self.answered += 1


def level(knee: int, seconds: float = 1.0) -> Callable[[int], float]:
    """Throughput rises up to `knee` requests at once and stays: what is more waits inside the server."""
    return lambda running: seconds * max(running / knee, 1.0)


def falling(knee: int, seconds: float = 1.0) -> Callable[[int], float]:
    """Throughput rises up to `knee` requests at once and falls beyond: memory is swapped, caches are lost."""
    return lambda running: seconds * max(running / knee, 1.0) ** 2


def saturating(half: int, seconds: float = 1.0) -> Callable[[int], float]:
    """Throughput comes ever closer to a limit, as of a batch; with `half` requests at once it is half of that."""
    return lambda running: seconds * (1 + running / half) / 2


async def keep_asking(gate: Gate, server: SimulatedServer, callers: int, campaign: str = "") -> None:
    """So many callers ask without end, each again as soon as it has been answered or refused."""

    async def ask() -> None:
        while True:
            try:
                async with gate.admitted(Caller(campaign)):
                    await server.ask()
            except ModelUnavailable:
                continue

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(ask())
