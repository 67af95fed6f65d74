"""Versions of messages: a newer minor one adds fields and is read, with them; another major one is no message of ours.

What becomes of records that can't be read is in test_bus_worker.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError, Message

from duologue.bus import Poison
from duologue.bus.codec import decode, encode
from duologue.contracts.convert import UnreadableMessageError
from duologue.contracts.limits import _faults, _fields_of, check_limits
from duologue.contracts.topics import TOPICS, Topic
from tests.support.mutation import Mutator

# Field 1023, which no message has yet: a text.
LATER = b"\xfa\x3f\x05later"

each_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


def parts_of(message: Message) -> Iterator[Message]:
    """The message and all that are set in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for part in value if field.is_repeated else [value]:
            yield from parts_of(part)


@each_topic
def test_fields_of_a_newer_minor_version_are_read_over_and_kept_wherever_they_are(topic: Topic) -> None:
    newer = topic.message()
    newer.CopyFrom(topic.example)
    parts = list(parts_of(newer))
    for part in parts:
        part.MergeFromString(LATER)
    decoded = decode(topic.message, encode(topic, newer, "test"))
    assert decoded.SerializeToString().count(b"later") == len(parts)
    for part in parts_of(decoded):
        part.DiscardUnknownFields()
    assert decoded == topic.example


@each_topic
def test_another_major_version_is_poison_that_names_both(topic: Topic) -> None:
    record = encode(topic, topic.example, "test")
    name = topic.message.DESCRIPTOR.full_name
    other = name.replace("duologue.v1.", "duologue.v2.")
    with pytest.raises(Poison, match=f"a {other}, this version reads {name}"):
        decode(topic.message, replace(record, headers={**record.headers, "ce_type": other}))


@each_topic
def test_another_encoding_is_poison_that_names_it(topic: Topic) -> None:
    record = encode(topic, topic.example, "test")
    with pytest.raises(Poison, match="application/json, where a"):
        decode(topic.message, replace(record, headers={**record.headers, "content-type": "application/json"}))


@each_topic
def test_a_producer_that_says_no_type_is_believed(topic: Topic) -> None:
    record = replace(encode(topic, topic.example, "another tool"), headers={})
    assert decode(topic.message, record) == topic.example


@each_topic
def test_what_a_field_cannot_hold_is_told_with_its_name_and_nothing_else_is_refused(topic: Topic) -> None:
    refused = 0
    for record in Mutator(topic, [topic.example], seed=20261123).records(300):
        try:
            message = topic.message.FromString(record.value)
        except DecodeError:
            continue
        faults = list(_faults(message, _fields_of(message.DESCRIPTOR, False), ""))
        refused += bool(faults)
        with pytest.raises(UnreadableMessageError) if faults else nullcontext() as error:
            check_limits(message)
        assert faults == [] or str(error.value) == "; ".join(faults[:3])
    assert refused > 10
