"""What a worker tells of its records: how many, how fast, how old, and how far behind it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from prometheus_client import Counter, Gauge, Histogram

from duologue.bus.record import Record
from duologue.telemetry import observe

_HANDLED = Counter("duologue_records_total", "Records handled, by what became of them.", ("topic", "group", "outcome"))
_STOPPED = Gauge(
    "duologue_consumer_stopped", "1 once too many of the last records were dead letters.", ("topic", "group")
)
_WAITING = Gauge(
    "duologue_consumer_waiting",
    "1 while records fail one after the other, as in an outage, and one at a time is tried.",
    ("topic", "group"),
)
_IN_FLIGHT = Gauge("duologue_records_in_flight", "Records being handled.", ("topic", "group"))
_SECONDS = Histogram(
    "duologue_record_seconds",
    "Time to handle a record.",
    ("topic", "group"),
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
)
_AGE = Histogram(
    "duologue_record_age_seconds",
    "Time from when a record was made until it began to be handled, the first time or again.",
    ("topic", "group", "attempt"),
    buckets=(0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000),
)
_LAG = Gauge(
    "duologue_consumer_lag_records",
    "Records that this member of a group has yet to finish, of the partitions that it holds; retries are a topic too.",
    ("topic", "group"),
)

_OUTCOMES = ("done", "retried", "dead", "cancelled", "lease_lost")


class WorkerMetrics:
    """Those of one worker, their labels looked up once instead of with every record."""

    def __init__(self, topic: str, group: str, is_waiting: Callable[[], bool]) -> None:
        self.in_flight = _IN_FLIGHT.labels(topic, group)
        self.seconds = _SECONDS.labels(topic, group)
        self._group = group
        self._handled = {outcome: _HANDLED.labels(topic, group, outcome) for outcome in _OUTCOMES}
        self._stopped = _STOPPED.labels(topic, group)
        self._stopped.set(0)
        self._first, self._again = (_AGE.labels(topic, group, attempt) for attempt in ("first", "again"))
        _WAITING.labels(topic, group).set_function(lambda: float(is_waiting()))

    def began(self, record: Record, attempt: int) -> None:
        age = _seconds_since_made(record)
        if age is not None:
            observe(self._first if attempt == 1 else self._again, age)

    def handled(self, outcome: str) -> None:
        self._handled[outcome].inc()

    def stopped(self) -> None:
        self._stopped.set(1)

    def behind(self, lag: Mapping[str, int]) -> None:
        """By topic, those of the retries among them."""
        for topic, records in lag.items():
            _LAG.labels(topic, self._group).set(records)

    def left(self, topics: Iterable[str]) -> None:
        """It holds nothing any more: whatever it told of its lag would be wrong."""
        for topic in topics:
            _LAG.remove(topic, self._group)


def _seconds_since_made(record: Record) -> float | None:
    """By the clock of who made it; None where it does not say when that was."""
    try:
        made = datetime.fromisoformat(record.headers["ce_time"])
        return max((datetime.now(UTC) - made).total_seconds(), 0.0)
    except (KeyError, ValueError, TypeError):  # TypeError: a time without a zone
        return None
