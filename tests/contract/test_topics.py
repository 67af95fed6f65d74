"""The contracts: one table of topics with examples that decode, and generated code that is up to date."""

import hashlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from duologue.bus import Poison, Record
from duologue.bus.codec import decode, encode
from duologue.contracts import v1
from duologue.contracts.topics import PREFIX, TOPICS, Topic
from duologue.contracts.v1 import events_pb2

ROOT = Path(__file__).parents[2]
SERVICES = {folder.name for folder in (ROOT / "services").iterdir() if (folder / "pyproject.toml").exists()}

each_topic = pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)


# The table


def test_every_name_is_unique_with_all_retries_and_dead_letters() -> None:
    names = [topic.name for topic in TOPICS]
    for topic in TOPICS:
        for group in topic.consumers:
            names += [topic.retry(group), topic.dead_letters(group)]
    assert len(set(names)) == len(names)


@each_topic
def test_a_name_says_what_it_is_and_which_version(topic: Topic) -> None:
    assert topic.name.startswith(PREFIX)
    assert topic.name.endswith(".v1")
    # Kafka's limit, with room for what retries and dead letters add.
    assert max(len(name) for name in (topic.name, *map(topic.dead_letters, topic.consumers))) <= 249
    assert set(topic.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert topic.description.endswith(".")


@each_topic
def test_producers_consumers_and_followers_are_services(topic: Topic) -> None:
    assert len(SERVICES) == 5
    assert topic.producers
    assert topic.consumers or topic.followers
    assert {*topic.producers, *topic.consumers, *topic.followers} <= SERVICES
    readers = (*topic.consumers, *topic.followers)
    for services in (topic.producers, readers):
        assert len(set(services)) == len(services)


@each_topic
def test_the_key_is_a_text_of_the_message_and_set_in_the_example(topic: Topic) -> None:
    field = topic.message.DESCRIPTOR.fields_by_name[topic.key]
    assert field.type == field.TYPE_STRING
    assert topic.key_of(topic.example) == getattr(topic.example, topic.key) != ""


@each_topic
def test_the_example_is_one_of_its_message_and_shows_its_fields(topic: Topic) -> None:
    assert isinstance(topic.example, topic.message)
    assert len(topic.example.ListFields()) >= min(4, len(topic.message.DESCRIPTOR.fields))
    assert topic.message.FromString(topic.example.SerializeToString()) == topic.example


def test_every_event_has_a_topic_and_every_topic_another_event() -> None:
    messages = [topic.message for topic in TOPICS]
    assert len(set(messages)) == len(messages)
    parts = {"Decoding", "RolePlay", "Models", "Usage"}
    assert {message.DESCRIPTOR.name for message in messages} == set(events_pb2.DESCRIPTOR.message_types_by_name) - parts


# Records


@each_topic
def test_an_example_goes_through_a_record_and_back(topic: Topic) -> None:
    record = encode(topic, topic.example, "test")
    assert decode(topic.message, record) == topic.example
    assert (record.topic, record.key, record.not_before) == (topic.name, topic.key_of(topic.example), 0.0)
    headers = record.headers
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_source"] == "/duologue/test"
    assert headers["ce_type"] == topic.message.DESCRIPTOR.full_name
    assert headers["content-type"] == "application/protobuf"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(headers["ce_time"])).total_seconds()) < 60


@each_topic
def test_the_same_said_twice_has_one_id_and_anything_else_another(topic: Topic) -> None:
    ids = [encode(topic, topic.example, source).headers["ce_id"] for source in ("scoring", "filtering")]
    other = topic.message()
    other.CopyFrom(topic.example)
    setattr(other, topic.key, "another")
    assert ids[0] == ids[1] != encode(topic, other, "scoring").headers["ce_id"]
    assert ids[0] == hashlib.sha256(topic.example.SerializeToString(deterministic=True)).hexdigest()[:32]


@each_topic
def test_a_message_without_its_key_is_poison(topic: Topic) -> None:
    other = topic.message()
    other.CopyFrom(topic.example)
    other.ClearField(topic.key)
    for message in (other, topic.message()):
        record = Record(topic.name, "key", message.SerializeToString())
        with pytest.raises(Poison, match=rf"{topic.message.DESCRIPTOR.full_name} without {topic.key}"):
            decode(topic.message, record)


@each_topic
@given(data=st.data())
def test_mutated_bytes_are_read_or_poison(topic: Topic, data: st.DataObject) -> None:
    value = bytearray(topic.example.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(value)))
        cut = data.draw(st.integers(0, 3))
        value[place : place + cut] = data.draw(st.binary(max_size=3))
    _read_or_poison(topic.message, bytes(value))


@given(st.sampled_from(TOPICS), st.binary(max_size=60))
def test_any_bytes_are_read_or_poison(topic: Topic, value: bytes) -> None:
    _read_or_poison(topic.message, value)


def _read_or_poison(message: type[Message], value: bytes) -> None:
    record = Record("topic", "key", value)
    try:
        decoded = decode(message, record)
    except Poison as error:
        reason = str(error)
        assert message.DESCRIPTOR.full_name in reason
    else:
        assert decoded.ByteSize()


# Generated code


def test_the_generated_code_is_what_the_protos_say(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "protos/generate.py", tmp_path], check=True, capture_output=True)
    committed = Path(str(v1.__file__)).parent
    texts = [
        {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        for folder in (tmp_path / "v1", committed)
    ]
    stale = [name for name in texts[0] | texts[1] if texts[0].get(name) != texts[1].get(name)]
    assert stale == [], "run `make protos`"


def test_the_protos_are_lint_clean() -> None:
    buf = Path(sys.executable).with_name("buf")
    for arguments in (["lint"], ["format", "--diff", "--exit-code"]):
        done = subprocess.run([buf, *arguments], cwd=ROOT / "protos", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
