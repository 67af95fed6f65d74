"""Transactions beside the event loop."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import duologue_filtering
from duologue.store import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'deep/folder/x.db'}")

    def create(session: Session) -> None:
        session.execute(text("CREATE TABLE thing (id INTEGER PRIMARY KEY)"))
        session.execute(text("CREATE TABLE part (thing INTEGER REFERENCES thing (id))"))

    await database.run(create)
    yield database
    await database.close()


def count(session: Session) -> int:
    return int(session.execute(text("SELECT count(*) FROM thing")).scalar_one())


async def test_what_a_function_did_is_there_when_run_returns(database: Database, tmp_path: Path) -> None:
    await database.run(lambda session: session.execute(text("INSERT INTO thing VALUES (1)")))
    other = Database(database.url)
    assert await other.run(count) == 1
    await other.close()


async def test_a_function_that_raises_has_done_nothing(database: Database) -> None:
    def fail(session: Session) -> None:
        session.execute(text("INSERT INTO thing VALUES (1)"))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(fail)
    assert await database.run(count) == 0


async def test_the_event_loop_goes_on_while_a_function_runs(database: Database) -> None:
    release = threading.Event()
    running = asyncio.create_task(database.run(lambda _: release.wait(10)))
    await asyncio.sleep(0)
    assert not running.done()
    release.set()
    assert await running


async def test_many_at_once_are_one_after_the_other(database: Database) -> None:
    def add(session: Session) -> None:
        session.execute(text("INSERT INTO thing SELECT coalesce(max(id), 0) + 1 FROM thing"))

    await asyncio.gather(*(database.run(add) for _ in range(50)))
    assert await database.run(count) == 50


async def test_two_processes_may_write_by_turns(database: Database) -> None:
    other = Database(database.url)

    def add(session: Session) -> None:
        session.execute(text("INSERT INTO thing SELECT coalesce(max(id), 0) + 1 FROM thing"))

    await asyncio.gather(*(which.run(add) for _ in range(20) for which in (database, other)))
    assert await other.run(count) == 40
    await other.close()


async def test_a_reference_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await database.run(lambda session: session.execute(text("INSERT INTO part VALUES (7)")))


async def test_commits_reach_the_disk_before_they_are_acknowledged(database: Database) -> None:
    def settings(session: Session) -> tuple[object, object]:
        return (
            session.execute(text("PRAGMA journal_mode")).scalar_one(),
            session.execute(text("PRAGMA synchronous")).scalar_one(),
        )

    assert await database.run(settings) == ("wal", 2)


async def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    folder = Path(duologue_filtering.__file__).parent / "migrations"
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate(folder)
    await database.run(
        lambda session: session.execute(
            text("INSERT INTO seal VALUES ('d', 'c', 1, 1, '[]', 0, false)"),
        )
    )
    database.migrate(folder)
    assert await database.run(lambda session: session.execute(text("SELECT count(*) FROM seal")).scalar_one()) == 1
    await database.close()


async def test_tables_that_a_transaction_made_are_undone_with_it(database: Database) -> None:
    """So a migration that is killed leaves nothing that the next one trips over."""

    def fail(session: Session) -> None:
        session.execute(text("CREATE TABLE half (id INTEGER)"))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(fail)
    tables = await database.run(
        lambda session: session.execute(text("SELECT name FROM sqlite_master WHERE name = 'half'")).all()
    )
    assert tables == []


MIGRATION = """
import os, signal
from alembic import op

revision, down_revision = "0001", None

def upgrade():
    op.execute("CREATE TABLE first (id INTEGER)")
    if "KILLED" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    op.execute("CREATE TABLE second (id INTEGER)")
"""
MIGRATE = "import pathlib, sys, duologue.store as s; s.Database(sys.argv[1]).migrate(pathlib.Path(sys.argv[2]))"


async def test_a_migration_that_is_killed_is_made_whole_by_the_next_start(tmp_path: Path) -> None:
    migrations = tmp_path / "migrations"
    (migrations / "versions").mkdir(parents=True)
    (migrations / "versions/0001_two_tables.py").write_text(MIGRATION)
    shutil.copy(Path(duologue_filtering.__file__).parent / "migrations/env.py", migrations)
    url = f"sqlite:///{tmp_path / 'x.db'}"
    command = [sys.executable, "-c", MIGRATE, url, str(migrations)]
    killed = await asyncio.create_subprocess_exec(*command, env={**os.environ, "KILLED": "1"})
    assert await killed.wait() == -signal.SIGKILL
    database = Database(url)
    database.migrate(migrations)
    await database.run(lambda session: session.execute(text("SELECT * FROM first, second")))
    await database.close()
