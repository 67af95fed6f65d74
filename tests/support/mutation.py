"""Messages that went wrong on the way or were never right: mutated bytes, fields, headers and keys, from a seed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from duologue.bus import Record, RecordTooLarge
from duologue.bus.codec import encode
from duologue.bus.record import check_size
from duologue.bus.worker import ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON
from duologue.contracts.topics import Topic

# Tells a record from others through all that becomes of it.
NUMBER = "test-number"

_STRANGER = "11111111-6ee1-4c53-9f0e-3a4f1f3b0c1d"
_TEXTS = (
    *("", " ", "x", "\0", "\x1b[31m\n\t\x7f", "\N{RIGHT-TO-LEFT OVERRIDE}", "\N{PARTY POPPER}" * 100, "a" * 300),
    *("..", "../../etc/passwd", "/etc/passwd", "a/../../b", "workflows", ".", "~root", "a/\0/b", f"{'d/' * 600}f"),
    *("s3://bucket/key", "file:///etc/passwd", "datasets/*", "'; DROP TABLE campaign; --", "%s%n{code}{place}"),
    *("NaN", "-1", "null", _STRANGER),
)
_LONG_TEXTS = ("long " * 20_000, "\N{PARTY POPPER}" * 70_000)
_DOUBLES = (float("nan"), float("inf"), float("-inf"), 1.8e308, -1e308, -1.0, 0.0, 5e-324, 0.5, 2.0, 1e12)
_INTEGERS = (0, 1, -1, 2, 7, 1000, 2**31 - 1, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
_HEADER_TEXTS = (
    *("", "x", "-3", "0", "1e9", "nan", "inf", "9" * 5000, "1e400", "1e300", "tomorrow", "\0\x1b[2J", "%s"),
    *("\N{PARTY POPPER}", "00-00000000000000000000000000000000-0000000000000000-01", "../../x", "y" * 64_000),
)
_HEADERS = (
    *(ATTEMPT, DEADLINE, ORIGIN, REASON, FAILED_AT, "traceparent", "tracestate", "ce_time", "ce_id", "ce_type"),
    *("ce_specversion", "content-type", "", "x" * 300, "naïve", "duologue-not-before"),
)
_KEYS = ("", "k" * 3000, "\0", "\N{PARTY POPPER}", _STRANGER)
_MANY = 5000
_BITS_32 = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM)


class Mutator:
    """Makes records for a topic out of sound messages. The same seed makes the same ones, but for their times."""

    def __init__(self, topic: Topic, sound: Sequence[Message], seed: int) -> None:
        self._topic = topic
        self._sound = sound
        self._rng = random.Random(seed)

    def records(self, count: int) -> list[Record]:
        return [self._record_that_a_bus_takes(number) for number in range(count)]

    def _record_that_a_bus_takes(self, number: int) -> Record:
        while True:
            record = self._record(number)
            try:
                check_size(record)
            except RecordTooLarge:
                continue
            return record

    def _record(self, number: int) -> Record:
        rng = self._rng
        message = type(self._sound[0])()
        message.CopyFrom(rng.choice(self._sound))
        kind = rng.random()
        if 0.25 <= kind < 0.9:
            for _ in range(rng.choice((1, 1, 1, 2, 3))):
                mutate_field(message, rng)
        record = encode(self._topic, message, "test")
        if kind < 0.25:
            record = replace(record, value=mutate_bytes(record.value, rng))
        elif rng.random() < 0.1:
            record = replace(record, value=record.value + _unknown_field(rng))
        # What is keyed by campaign would be worked off one after the other.
        record = replace(record, key=f"{record.key}-{number % 64}")
        if kind >= 0.9 or rng.random() < 0.1:
            record = mutate_envelope(record, rng)
        return replace(record, headers={**record.headers, NUMBER: str(number)})


def mutate_bytes(value: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a piece cut, put in, repeated or swapped with another."""
    data = bytearray(value)
    for _ in range(rng.choice((1, 1, 2, 5))):
        start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        how = rng.choice(("flip", "cut", "shorten", "insert", "repeat", "swap"))
        if how == "flip" and data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del data[start : min(end, start + 20)]
        elif how == "shorten":
            del data[end:]
        elif how == "insert":
            data[start:start] = rng.randbytes(rng.randrange(1, 12))
        elif how == "repeat":
            data[start:start] = data[start:end] * rng.randrange(1, 4)
        elif how == "swap":
            middle = (start + end) // 2
            data[start:end] = data[middle:end] + data[start:middle]
    return bytes(data)


def mutate_field(message: Message, rng: random.Random) -> None:
    """One field, anywhere in the message, cleared or set to what nobody would set it to."""
    owner, field = rng.choice(list(_fields_of(message)))
    if field.is_repeated:
        _mutate_repeated(owner, field, rng)
    elif field.message_type is not None and not owner.HasField(field.name):
        mutate_field(getattr(owner, field.name), rng)
    elif field.message_type is not None or rng.random() < 0.1:
        owner.ClearField(field.name)
    else:
        setattr(owner, field.name, _value(field, rng))


def _fields_of(message: Message) -> Iterator[tuple[Message, FieldDescriptor]]:
    """All fields of the message and of the messages that are set in it, each with the one that has it."""
    for field in message.DESCRIPTOR.fields:
        yield message, field
        value: Any = getattr(message, field.name)
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if field.is_repeated or message.HasField(field.name):
            for part in value if field.is_repeated else [value]:
                yield from _fields_of(part)


def _mutate_repeated(message: Message, field: FieldDescriptor, rng: random.Random) -> None:
    items: Any = getattr(message, field.name)
    how = rng.random()
    if how < 0.1:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        valued = field.message_type.fields_by_name["value"]
        for index in range(_MANY if how > 0.995 else 1):
            items[rng.choice(_TEXTS) if index == 0 else str(index)] = _value(valued, rng)
    elif field.message_type is None:
        items.extend([_value(field, rng)] * (_MANY if how > 0.995 else 1))
    elif items and how < 0.5:
        del items[rng.randrange(len(items))]
    elif items and how < 0.95:
        items.append(rng.choice(items))
    else:
        for _ in range(_MANY if how > 0.995 else 1):
            items.add()


def _value(field: FieldDescriptor, rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return rng.choice(_LONG_TEXTS if rng.random() < 0.01 else _TEXTS)
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return rng.choice(_DOUBLES)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    number = rng.choice(_INTEGERS)
    return max(min(number, 2**31 - 1), -(2**31)) if kind in _BITS_32 else number


def _unknown_field(rng: random.Random) -> bytes:
    """As a newer version might write one, or, now and then, nested deeper than any reader follows."""
    if rng.random() < 0.2:
        return b"\xfb\x3f" * 500 + b"\xfc\x3f" * 500
    return b"\xfa\x3f\x05later"


def mutate_envelope(record: Record, rng: random.Random) -> Record:
    """Headers, the key, or the time that the record waits for."""
    changes: tuple[Callable[[], Record], ...] = (
        lambda: replace(record, headers={}),
        lambda: replace(record, headers={**record.headers, rng.choice(_HEADERS): rng.choice(_HEADER_TEXTS)}),
        lambda: replace(record, headers={**record.headers, rng.choice(_HEADERS): rng.choice(_HEADER_TEXTS)}),
        lambda: replace(record, headers={**record.headers, **{f"h{n}": "many" for n in range(3000)}}),
        lambda: replace(record, key=rng.choice(_KEYS)),
        lambda: replace(record, not_before=rng.choice((-1e300, 1.0, time.time() + 0.2, time.time() + 1e9, 1e300))),
    )
    return rng.choice(changes)()
