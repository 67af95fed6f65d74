"""From a bus URL to a bus."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from duologue.bus.embedded import EmbeddedBus
from duologue.bus.record import Bus
from duologue.core.problems import WrongSetting


async def open_bus(url: str) -> Bus:
    """Open the bus of `url`: `sqlite:///path/to/bus.db`, the log that is embedded in every process of one machine.

    Raises `WrongSetting` for a URL of another kind, and for a file that can't be opened or created.
    """
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path:
        raise WrongSetting(f"bus URL {url!r} is not known; use sqlite:///path/to/bus.db (setting bus.url)")
    try:
        return await EmbeddedBus.open(Path(path))
    except (OSError, ValueError, sqlite3.Error) as error:
        raise WrongSetting(f"bus {url!r} can't be opened: {error} (setting bus.url)") from error
