"""From a bus URL to a bus."""

from __future__ import annotations

from pathlib import Path

from duologue.bus.embedded import EmbeddedBus
from duologue.bus.record import Bus


async def open_bus(url: str) -> Bus:
    """Open the bus of `url`: `sqlite:///path/to/bus.db`, the log that is embedded in every process of one machine.

    Raises ValueError for a URL of another kind.
    """
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise ValueError(f"bus URL {url!r} is not known; use sqlite:///path/to/bus.db (setting bus.url)")
    return await EmbeddedBus.open(Path(path))
