"""From a bus URL to a bus."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from duologue.bus.embedded import EmbeddedBus
from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.record import Bus
from duologue.core.problems import WrongSetting


async def open_bus(url: str, kafka: KafkaOptions | None = None, service: str = "") -> Bus:
    """Open the bus of `url`.

    `sqlite:///path/to/bus.db`: the log that is embedded in every process of one machine.
    `kafka://host:port,host:port`: brokers of a cluster, which `kafka` says how to reach.

    Raises `WrongSetting` for a URL of another kind, for a file that can't be opened or created, and for brokers that
    don't answer, don't let us in, or lack topics or rights that `service` needs.
    """
    kind, _, place = url.partition("://")
    if kind == "sqlite" and place[:1] == "/" and place[1:]:
        return await _open_embedded(Path(place[1:]))
    if kind == "kafka" and place:
        return await _open_kafka(place.split(","), kafka or KafkaOptions(), service)
    raise WrongSetting(f"bus URL {url!r} is not known; use sqlite:///path or kafka://host:port (setting bus.url)")


async def _open_embedded(file: Path) -> Bus:
    try:
        return await EmbeddedBus.open(file)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise WrongSetting(f"bus {str(file)!r} can't be opened: {error} (setting bus.url)") from error


async def _open_kafka(servers: list[str], options: KafkaOptions, service: str) -> Bus:
    from kafka.errors import KafkaError

    from duologue.bus.kafka.bus import KafkaBus
    from duologue.bus.kafka.rights import as_missing_right

    try:
        return await KafkaBus.open(servers, options, service)
    except KafkaError as error:
        refused = as_missing_right(error)
        if isinstance(refused, WrongSetting):
            raise refused from error
        raise WrongSetting(f"no bus on {','.join(servers)}: {error} (settings bus.url and kafka)") from error
