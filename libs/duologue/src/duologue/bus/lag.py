"""How far a consumer group is behind, in the metrics of its members."""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import Gauge

from duologue.bus.record import Bus
from duologue.contracts.topics import Topic

log = structlog.get_logger(__name__)

_LAG = Gauge(
    "duologue_consumer_lag_records",
    "Records that a group has not committed, as each of its members sees all of them; NaN while that is not known.",
    ("topic", "group"),
)

# Each look is a question to the brokers or to the embedded log.
_LOOK_SECONDS = 30.0


async def watch_lag(bus: Bus, topic: Topic, group: str) -> None:
    """Keep the lag of a topic and of its retries, for ever. Trouble of the bus is its consumers' to end with."""
    topics = (topic.name, topic.retry(group))
    while True:
        for name in topics:
            try:
                lag = float(await bus.lag(topic.consumer_group(group), name))
            except Exception as error:
                log.warning("lag is not known", topic=name, group=group, reason=str(error))
                lag = float("nan")
            _LAG.labels(name, group).set(lag)
        await asyncio.sleep(_LOOK_SECONDS)
