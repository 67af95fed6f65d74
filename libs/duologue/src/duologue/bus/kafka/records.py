"""Records as Kafka keeps them."""

from __future__ import annotations

import math
from typing import Any

from duologue.bus.record import Delivery, Record, check_size

# Not among the headers that a record shows: the bus's own.
_NOT_BEFORE = "duologue-not-before"

Encoded = tuple[str, bytes, bytes, list[tuple[str, bytes]]]
"""Topic, key, value and headers."""


def encode(record: Record) -> Encoded:
    """Raises `RecordTooLarge`, and TypeError and UnicodeEncodeError for what can't be written at all."""
    if not isinstance(record.value, bytes):
        raise TypeError(f"the value of a record is {type(record.value).__name__}, not bytes")
    check_size(record)
    headers = [(name, value.encode()) for name, value in record.headers.items()]
    if record.not_before:
        headers.append((_NOT_BEFORE, repr(record.not_before).encode()))
    return record.topic, record.key.encode(), record.value, headers


def delivery_of(consumed: Any, generation: int = 0) -> Delivery:
    """What a consumer gave, as ours. Other producers may have written it: no key, no value, any bytes in headers."""
    headers = {name: (value or b"").decode(errors="replace") for name, value in consumed.headers}
    waits = headers.pop(_NOT_BEFORE, "")
    key = (consumed.key or b"").decode(errors="replace")
    record = Record(consumed.topic, key, consumed.value or b"", headers, _seconds(waits))
    return Delivery(record, consumed.partition, consumed.offset, generation)


def _seconds(text: str) -> float:
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0
