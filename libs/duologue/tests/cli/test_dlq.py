"""`duologue dlq`: what could not be worked with is listed, shown and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.bus.embedded import EmbeddedBus
from duologue.bus.worker import FAILED_AT, ORIGIN, REASON
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_SCORED
from tests.support.command import duologue
from tests.support.desk import dialogue, generated

DEAD = DIALOGUE_GENERATED.dead_letters("scoring")
RETRY = DIALOGUE_GENERATED.retry("scoring")


def letter(name: str, value: bytes | None = None) -> Record:
    record = encode(DIALOGUE_GENERATED, generated(dialogue(name)), "test")
    headers = {
        **record.headers,
        REASON: f"{name} can not be read",
        ORIGIN: f"{DIALOGUE_GENERATED.name}/3/7",
        FAILED_AT: "1800000000.5",
    }
    return Record(DEAD, name, record.value if value is None else value, headers)


def publish(file: Path, records: Sequence[Record]) -> None:
    async def run() -> None:
        bus = await EmbeddedBus.open(file)
        await bus.publish(records)
        await bus.close()

    asyncio.run(run())


def read(file: Path, topic: str) -> list[Record]:
    async def run() -> list[Record]:
        bus = await EmbeddedBus.open(file)
        found = [delivery.record async for delivery in bus.read(topic)]
        await bus.close()
        return found

    return asyncio.run(run())


@pytest.fixture
def bus(home: Path) -> Path:
    """The log of this home, with two dead letters: one whole, one of bytes that are no message."""
    file = home / "bus.db"
    publish(file, [letter("whole"), letter("broken", b"\xff\xff")])
    return file


def ids() -> dict[str, str]:
    """Id by key of all letters."""
    return {item["key"]: item["id"] for item in duologue("dlq", "list", "--json").json["dead_letters"]}


@pytest.mark.usefixtures("bus")
def test_dead_letters_are_listed_with_reason_origin_and_time() -> None:
    done = duologue("dlq", "list")
    assert done.status == 0
    for said in ("whole can not be read", "broken can not be read", f"{DIALOGUE_GENERATED.name}/scoring/"):
        assert said in done.out
    letters = {item["key"]: item for item in duologue("dlq", "list", "--json").json["dead_letters"]}
    whole = letters["whole"]
    assert whole["id"].startswith(f"{DIALOGUE_GENERATED.name}/scoring/")
    assert {name: whole[name] for name in ("topic", "group", "origin", "failed_at", "replayed")} == {
        "topic": DIALOGUE_GENERATED.name,
        "group": "scoring",
        "origin": f"{DIALOGUE_GENERATED.name}/3/7",
        "failed_at": "2027-01-15T08:00:00+00:00",
        "replayed": False,
    }


@pytest.mark.usefixtures("bus")
def test_a_dead_letter_is_shown_with_its_message_as_far_as_it_is_one() -> None:
    done = duologue("dlq", "show", ids()["whole"])
    assert done.status == 0
    assert "reason: whole can not be read" in done.out
    assert "Hello, this is the parcel desk." in done.out
    broken = duologue("dlq", "show", ids()["broken"])
    assert (broken.status, "message: ffff" in broken.out) == (0, True)


def test_a_replayed_letter_goes_to_its_group_alone_and_only_once(bus: Path) -> None:
    letter_id = ids()["whole"]
    assert duologue("dlq", "replay", letter_id).out == "Replayed 1\n"
    assert duologue("dlq", "replay", letter_id).out == "Replayed 0\n"
    (again,) = read(bus, RETRY)
    assert (again.key, again.value) == ("whole", letter("whole").value)
    assert REASON not in again.headers
    assert read(bus, DIALOGUE_GENERATED.name) == []
    replayed = {item["key"]: item["replayed"] for item in duologue("dlq", "list", "--json").json["dead_letters"]}
    assert replayed == {"whole": True, "broken": False}


def test_all_letters_are_replayed_that_were_not_yet(bus: Path) -> None:
    duologue("dlq", "replay", ids()["whole"])
    assert duologue("dlq", "replay", "--all").out == "Replayed 1\n"
    assert duologue("dlq", "replay", "--all").out == "Replayed 0\n"
    assert sorted(record.key for record in read(bus, RETRY)) == ["broken", "whole"]


def test_a_topic_with_two_readers_keeps_their_letters_apart(bus: Path) -> None:
    record = letter("scored")
    publish(bus, [Record(DIALOGUE_SCORED.dead_letters("filtering"), "scored", record.value, record.headers)])
    assert ids()["scored"].startswith(f"{DIALOGUE_SCORED.name}/filtering/")
    duologue("dlq", "replay", ids()["scored"])
    assert len(read(bus, DIALOGUE_SCORED.retry("filtering"))) == 1
    assert read(bus, DIALOGUE_SCORED.retry("campaign")) == []


@pytest.mark.usefixtures("bus")
@pytest.mark.parametrize("command", ["show", "replay"])
def test_a_letter_that_does_not_exist_is_said_so(command: str) -> None:
    done = duologue("dlq", command, "nothing/here/0/0")
    assert done.status == 2
    assert 'There is no dead letter "nothing/here/0/0": see `duologue dlq list`.' in done.err


def test_without_dead_letters_the_list_is_empty(home: Path) -> None:
    publish(home / "bus.db", [])
    assert duologue("dlq", "list", "--json").json == {"dead_letters": []}
    assert duologue("dlq", "list").out == "No dead letters.\n"


def test_a_bus_that_is_not_there_is_named_and_not_made(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = duologue("dlq", "list")
    assert (done.status, done.out) == (1, "")
    assert f"There is no bus at {home / 'bus.db'}." in done.err
    assert "DUOLOGUE_BUS_URL" in done.err
    monkeypatch.setenv("DUOLOGUE_BUS_URL", f"sqlite:///{tmp_path / 'bsu.db'}")
    done = duologue("dlq", "replay", "--all")
    assert (done.status, f"There is no bus at {tmp_path / 'bsu.db'}." in done.err) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_a_bus_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOLOGUE_BUS_URL", "kafkaesque://host")
    done = duologue("dlq", "list")
    assert (done.status, "kafkaesque://host" in done.err) == (2, True)


def test_another_bus_can_be_named(bus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(ids()) == 2
    publish(tmp_path / "other.db", [letter("other")])
    monkeypatch.setenv("DUOLOGUE_BUS_URL", f"sqlite:///{tmp_path / 'other.db'}")
    assert set(ids()) == {"other"}
