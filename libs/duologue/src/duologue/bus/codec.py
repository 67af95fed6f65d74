"""Messages to records and back, with CloudEvents attributes (CloudEvents 1.0, Kafka binding) and W3C trace context in
the headers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from duologue.bus.record import Record
from duologue.bus.spans import trace_headers
from duologue.bus.worker import Poison
from duologue.contracts.convert import UnreadableMessageError
from duologue.contracts.limits import check_limits
from duologue.contracts.topics import TOPICS, Topic

M = TypeVar("M", bound=Message)

_CONTENT_TYPE = "application/protobuf"
_SHOWN_CHARACTERS = 100
_KEYS = {topic.message: topic.key for topic in TOPICS}


def encode(topic: Topic, message: Message, source: str) -> Record:
    """A record of `message`. Its id depends on the content alone, so that saying a thing twice is seen to be that."""
    value = message.SerializeToString(deterministic=True)
    key, record_id = topic.key_of(message), hashlib.sha256(value).hexdigest()[:32]
    headers = {
        "ce_specversion": "1.0",
        "ce_id": record_id,
        "ce_source": f"/duologue/{source}",
        "ce_type": message.DESCRIPTOR.full_name,
        "ce_time": datetime.now(UTC).isoformat(),
        "content-type": _CONTENT_TYPE,
        **trace_headers(topic.name, key, record_id),
    }
    return Record(topic.name, key, value, headers)


def decode(message: type[M], record: Record) -> M:
    """The message of a record, with all fields, also those that only newer versions know.

    Raises `Poison` when the record says that it holds another message, as another major version of it, when the bytes
    are not one, and when a field holds what it can't, as an empty key.
    """
    name = message.DESCRIPTOR.full_name
    _check_headers(name, record)
    try:
        decoded = message.FromString(record.value)
    except DecodeError as error:
        raise Poison(f"not a {name}: {error}") from error
    if (key := _KEYS.get(message)) and not getattr(decoded, key):
        raise Poison(f"a {name} without {key}")
    try:
        check_limits(decoded)
    except UnreadableMessageError as error:
        raise Poison(f"a {name} that can't be: {error}") from error
    return decoded


def _check_headers(name: str, record: Record) -> None:
    """Another message may decode all the same, as something else. Producers that say nothing are believed."""
    said = record.headers.get("ce_type", name)
    if said != name:
        raise Poison(f"a {said[:_SHOWN_CHARACTERS]}, this version reads {name}")
    media = record.headers.get("content-type", _CONTENT_TYPE)
    if media.partition(";")[0].strip().lower() != _CONTENT_TYPE:
        raise Poison(f"{media[:_SHOWN_CHARACTERS]}, where a {name} comes as {_CONTENT_TYPE}")
