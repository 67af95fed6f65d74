"""Messages to records and back, with CloudEvents attributes in the headers (CloudEvents 1.0, Kafka binding)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from duologue.bus.record import Record
from duologue.bus.worker import Poison
from duologue.contracts.topics import TOPICS, Topic

M = TypeVar("M", bound=Message)

_KEYS = {topic.message: topic.key for topic in TOPICS}


def encode(topic: Topic, message: Message, source: str) -> Record:
    """A record of `message`. Its id depends on the content alone, so that saying a thing twice is seen to be that."""
    value = message.SerializeToString(deterministic=True)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": hashlib.sha256(value).hexdigest()[:32],
        "ce_source": f"/duologue/{source}",
        "ce_type": message.DESCRIPTOR.full_name,
        "ce_time": datetime.now(UTC).isoformat(),
        "content-type": "application/protobuf",
    }
    return Record(topic.name, topic.key_of(message), value, headers)


def decode(message: type[M], record: Record) -> M:
    """The message of a record. Raises `Poison` when the bytes are not one, or lack what every message has: a key."""
    try:
        decoded = message.FromString(record.value)
    except DecodeError as error:
        raise Poison(f"not a {message.DESCRIPTOR.full_name}: {error}") from error
    if (key := _KEYS.get(message)) and not getattr(decoded, key):
        raise Poison(f"a {message.DESCRIPTOR.full_name} without {key}")
    return decoded
