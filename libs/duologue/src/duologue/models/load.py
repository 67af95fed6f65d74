"""What a server says of itself at /metrics: how busy it is, asked while requests are under way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from duologue.models.capabilities import Capabilities
from duologue.models.connection import Connection, ModelRefused, ModelUnavailable
from duologue.models.dialects import Gauges
from duologue.models.gate import Gate

# Its queue of a second ago is still news; asked more often, its metrics cost more than they tell.
LOOK_SECONDS = 1.0


class Load(NamedTuple):
    """Requests in work and in the queue, all models together, and the share of the fullest key-value cache in use."""

    running: float
    waiting: float
    memory: float


async def watch_load(gate: Gate, connection: Connection, known: Callable[[], Capabilities | None]) -> None:
    """Tell the gate about its server, for ever. `known`: what the server is, None while nobody knows.

    A server that tells nothing is not asked again before it comes back as another.
    """
    silent: Capabilities | None = None
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        server = known()
        if server is None or server.gauges is None or server is silent:
            continue
        if not gate.running or gate.seconds_since_told < LOOK_SECONDS / 2:  # another model's of the same server asks
            continue
        try:
            load = load_of((await connection.get("/metrics", LOOK_SECONDS)).decode(errors="replace"), server.gauges)
        except ModelRefused:
            silent = server
        except ModelUnavailable:
            continue  # whether it is there the requests under way will tell
        else:
            if load is None:
                silent = server
            else:
                gate.told(*load)


def load_of(text: str, gauges: Gauges) -> Load | None:
    """The load out of Prometheus's text format; None where it does not tell the requests in work and in the queue."""
    wanted = tuple(name for name in (gauges.running, gauges.waiting, gauges.memory) if name)
    # Histograms are most of such a page, and reading it whole takes tens of milliseconds.
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    found: dict[str, list[float]] = {name: [] for name in wanted}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                if sample.name in found and math.isfinite(sample.value):
                    found[sample.name].append(sample.value)
    except ValueError:
        return None
    if not found[gauges.running] or not found[gauges.waiting]:
        return None
    return Load(sum(found[gauges.running]), sum(found[gauges.waiting]), max(found.get(gauges.memory, ()), default=0.0))
