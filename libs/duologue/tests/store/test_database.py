"""Transactions beside the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

import duologue_campaign
import duologue_filtering
from duologue.core.problems import WrongSetting
from duologue.store import Database, DatabaseUnavailable


def create(session: Session) -> None:
    session.execute(text("CREATE TABLE thing (id INTEGER PRIMARY KEY)"))
    session.execute(text("CREATE TABLE part (thing INTEGER REFERENCES thing (id))"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.run(create)
    yield database
    await database.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'deep/folder/x.db'}")
    await database.run(create)
    yield database
    await database.close()


def count(session: Session) -> int:
    return int(session.execute(text("SELECT count(*) FROM thing")).scalar_one())


async def test_what_a_function_did_is_there_when_run_returns(database: Database) -> None:
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


async def test_many_at_once_are_one_after_the_other(sqlite: Database) -> None:
    def add(session: Session) -> None:
        session.execute(text("INSERT INTO thing SELECT coalesce(max(id), 0) + 1 FROM thing"))

    await asyncio.gather(*(sqlite.run(add) for _ in range(50)))
    assert await sqlite.run(count) == 50


async def test_two_processes_may_write_by_turns(sqlite: Database) -> None:
    other = Database(sqlite.url)

    def add(session: Session) -> None:
        session.execute(text("INSERT INTO thing SELECT coalesce(max(id), 0) + 1 FROM thing"))

    await asyncio.gather(*(which.run(add) for _ in range(20) for which in (sqlite, other)))
    assert await other.run(count) == 40
    await other.close()


async def test_a_reference_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        await database.run(lambda session: session.execute(text("INSERT INTO part VALUES (7)")))


async def test_commits_reach_the_disk_before_they_are_acknowledged(sqlite: Database) -> None:
    def settings(session: Session) -> tuple[object, object]:
        return (
            session.execute(text("PRAGMA journal_mode")).scalar_one(),
            session.execute(text("PRAGMA synchronous")).scalar_one(),
        )

    assert await sqlite.run(settings) == ("wal", 2)


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    folder = Path(duologue_filtering.__file__).parent / "migrations"
    database = Database(database_url)
    await database.migrate(folder)
    await database.run(
        lambda session: session.execute(
            text("INSERT INTO seal VALUES ('d', 'c', 1, 1, '[]', 0, false)"),
        )
    )
    await database.migrate(folder)
    assert await database.run(lambda session: session.execute(text("SELECT count(*) FROM seal")).scalar_one()) == 1
    await database.close()


async def test_tables_that_a_transaction_made_are_undone_with_it(database: Database) -> None:
    """So a migration that is killed leaves nothing that the next one trips over."""

    def fail(session: Session) -> None:
        session.execute(text("CREATE TABLE half (id INTEGER)"))
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.run(fail)
    assert not await database.run(lambda session: inspect(session.connection()).has_table("half"))


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
ENVIRONMENT = """
import sqlalchemy as sa
from duologue.store.migrations import run_migrations

metadata = sa.MetaData()
for name in ("first", "second"):
    sa.Table(name, metadata, sa.Column("id", sa.Integer))
run_migrations(metadata)
"""
MIGRATE = """
import asyncio, pathlib, sys
from duologue.store import Database

asyncio.run(Database(sys.argv[1]).migrate(pathlib.Path(sys.argv[2])))
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Of two tables; where KILLED is set in the environment, the process dies between them."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions/0001_two_tables.py").write_text(MIGRATION)
    (folder / "env.py").write_text(ENVIRONMENT)
    return folder


async def migrating(url: str, migrations: Path, **environment: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-c", MIGRATE, url, str(migrations)]
    return await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})


async def test_a_migration_that_is_killed_is_made_whole_by_the_next_start(database_url: str, migrations: Path) -> None:
    killed = await migrating(database_url, migrations, KILLED="1")
    assert await killed.wait() == -signal.SIGKILL
    database = Database(database_url)
    await database.migrate(migrations)
    await database.run(lambda session: session.execute(text("SELECT * FROM first, second")))
    await database.close()


async def test_processes_that_start_at_once_migrate_one_after_the_other(database_url: str, migrations: Path) -> None:
    processes = [await migrating(database_url, migrations) for _ in range(3)]
    assert [await process.wait() for process in processes] == [0, 0, 0]
    database = Database(database_url)
    await database.run(lambda session: session.execute(text("SELECT * FROM first, second")))
    await database.close()


@pytest.mark.parametrize("first", [0, 1])
async def test_what_another_service_has_made_is_not_taken_for_ones_own(database_url: str, first: int) -> None:
    """Revisions are numbered alike in both, so that Alembic alone would find nothing to do, or the wrong thing."""
    services = [
        Path(package.__file__ or "").parent / "migrations" for package in (duologue_campaign, duologue_filtering)
    ]
    database = Database(database_url)
    await database.migrate(services[first])
    with pytest.raises(WrongSetting, match="holds the tables of another service"):
        await database.migrate(services[1 - first])
    await database.close()


async def test_what_a_newer_version_has_made_is_refused(database_url: str, migrations: Path) -> None:
    database = Database(database_url)
    await database.migrate(migrations)
    await database.run(lambda session: session.execute(text("UPDATE alembic_version SET version_num = '0999'")))
    with pytest.raises(WrongSetting, match=r"newer version.*0999"):
        await database.migrate(migrations)
    await database.close()


async def test_a_mistake_of_ours_is_no_outage(database: Database) -> None:
    """SQLite's driver calls a statement that is wrong an operational error, as it does a full disk."""
    with pytest.raises(DBAPIError, match="nothing"):
        await database.run(lambda session: session.execute(text("SELECT * FROM nothing")))


async def test_a_full_disk_is_an_outage(sqlite: Database) -> None:
    def fill(session: Session) -> None:
        session.execute(text("PRAGMA max_page_count = 4"))
        session.execute(text("CREATE TABLE large AS SELECT zeroblob(1000000) AS zeros"))

    with pytest.raises(DatabaseUnavailable, match="full"):
        await sqlite.run(fill)


@pytest.mark.parametrize("url", ["mysql://root@host/x", "postgresql+psycopg2://host/x", "nonsense"])
def test_another_kind_of_database_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(WrongSetting, match="use sqlite:///path or postgresql"):
        Database(url)
