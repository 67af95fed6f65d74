"""What is particular to the embedded log; what every bus promises is in tests/contract."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from duologue.bus import Record, open_bus
from duologue.bus.embedded import EmbeddedBus
from duologue.core.problems import WrongSetting


async def test_processes_that_open_a_new_log_at_the_same_time_all_get_it(tmp_path: Path) -> None:
    for attempt in range(40):
        file = tmp_path / f"{attempt}.db"
        buses = await asyncio.gather(*(EmbeddedBus.open(file) for _ in range(6)))
        await asyncio.gather(*(bus.close() for bus in buses))


async def test_a_topic_keeps_the_partitions_that_it_was_made_with(tmp_path: Path) -> None:
    first = await EmbeddedBus.open(tmp_path / "bus.db", partitions=2)
    second = await EmbeddedBus.open(tmp_path / "bus.db", partitions=8)
    for bus in (first, second):
        await bus.publish([Record("topic", f"key-{number}", b"") for number in range(50)])
    assert {delivery.partition async for delivery in second.read("topic")} == {0, 1}
    await first.close()
    await second.close()


async def test_the_lag_counts_the_records_that_are_not_committed(bus: EmbeddedBus) -> None:
    await bus.publish([Record("topic", "key", b"") for _ in range(5)])
    member = await bus.subscribe("readers", ["topic"])
    deliveries = await member.fetch(5)
    lags = []
    for index in (3, 1, 0, 4, 2):
        await member.finish(deliveries[index])
        lags.append(await bus.lag("readers", "topic"))
    assert lags == [5, 5, 3, 3, 0]
    assert await bus.lag("others", "topic") == 5


async def test_a_url_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///below/bus.db", f"sqlite:///{tmp_path}/below/bus.db"):
        bus = await open_bus(url)
        await bus.publish([Record("topic", "key", b"")])
        await bus.close()
    bus = await open_bus("sqlite:///below/bus.db")
    assert len([delivery async for delivery in bus.read("topic")]) == 2
    await bus.close()


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "bus.db", "kafak://host:9092", "postgresql:///bus"])
async def test_a_url_of_another_kind_is_answered_with_the_setting(url: str) -> None:
    with pytest.raises(ValueError, match=r"setting bus\.url"):
        await open_bus(url)


async def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to look like one" * 10)
    for path in (tmp_path / "file", tmp_path / "file" / "bus.db", tmp_path, tmp_path / "nul\0.db"):
        async with asyncio.timeout(10):
            with pytest.raises(WrongSetting, match=r"can't be opened: .+ \(setting bus\.url\)"):
                await open_bus(f"sqlite:///{path}")


async def test_a_closed_log_refuses_instead_of_hanging(tmp_path: Path) -> None:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    await bus.close()
    await bus.close()
    async with asyncio.timeout(10):
        with pytest.raises(RuntimeError, match="closed"):
            await bus.publish([Record("topic", "key", b"")])


async def test_on_a_full_disk_what_was_acknowledged_is_there_once_and_the_rest_not_at_all(tmp_path: Path) -> None:
    bus = await EmbeddedBus.open(tmp_path / "bus.db", partitions=1)
    await bus.publish([Record("topic", "seed", b"")])

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 4}")

    await bus._log.read(limit)
    sizes = {"first": 100, "big": 1_000_000, "last": 100}
    outcomes = await asyncio.gather(
        *(bus.publish([Record("topic", key, bytes(size))]) for key, size in sizes.items()), return_exceptions=True
    )
    acknowledged = [key for key, outcome in zip(sizes, outcomes, strict=True) if outcome is None]
    assert isinstance(outcomes[1], sqlite3.Error)
    assert [delivery.record.key async for delivery in bus.read("topic")] == ["seed", *acknowledged]
    await bus.close()
