"""A real server that goes away, stands still and comes back, and one that says no."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

import duologue_filtering
from duologue.bus import Poison, Transient
from duologue.core.problems import InvalidInput, WrongSetting
from duologue.runtime.failures import classify_errors
from duologue.store import Database, DatabaseUnavailable
from duologue.store.options import DatabaseOptions
from tests.support.brokers.cluster import free_ports
from tests.support.eventually import eventually
from tests.support.postgres import PostgresServer, connect

MIGRATIONS = Path(duologue_filtering.__file__).parent / "migrations"


@pytest.fixture
async def database(own_postgres: PostgresServer) -> AsyncIterator[Database]:
    """On a server that the test may kill; a statement has a second."""
    database = Database(own_postgres.url, DatabaseOptions(pool_size=2, connection_seconds=2, statement_seconds=1.0))
    yield database
    await database.close()


def one(session: Session) -> int:
    return int(session.execute(text("SELECT 1")).scalar_one())


def backend(session: Session) -> int:
    return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


async def test_a_server_that_was_killed_is_unavailable_until_it_is_back(
    own_postgres: PostgresServer, database: Database
) -> None:
    await asyncio.gather(*(database.run(one) for _ in range(4)))
    own_postgres.kill()
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            await database.run(one)
    own_postgres.run()
    own_postgres.wait()
    assert await asyncio.gather(*(database.run(one) for _ in range(4))) == [1, 1, 1, 1]


async def test_a_transaction_that_the_server_dies_in_is_undone(
    own_postgres: PostgresServer, database: Database
) -> None:
    await database.run(lambda session: session.execute(text("CREATE TABLE thing (id INTEGER)")))
    inserted, go_on = threading.Event(), threading.Event()

    def insert(session: Session) -> None:
        session.execute(text("INSERT INTO thing VALUES (1)"))
        inserted.set()
        go_on.wait(30)

    running = asyncio.create_task(database.run(insert))
    await asyncio.to_thread(inserted.wait, 30)
    own_postgres.kill()
    own_postgres.run()
    own_postgres.wait()
    go_on.set()
    with pytest.raises(DatabaseUnavailable):
        await running
    assert await database.run(lambda session: session.execute(text("SELECT count(*) FROM thing")).scalar_one()) == 0


async def test_a_server_that_stands_still_is_unavailable_until_it_goes_on(
    own_postgres: PostgresServer, database: Database
) -> None:
    """Its kernel goes on to acknowledge what is sent, so neither keepalives nor its own timeouts end the wait."""
    await database.run(one)
    own_postgres.pause()
    try:
        async with asyncio.timeout(20):
            with pytest.raises(DatabaseUnavailable):
                await database.run(one)
    finally:
        own_postgres.resume()
    assert await database.run(one) == 1


async def test_a_statement_that_takes_too_long_is_given_up_and_the_connection_kept(database: Database) -> None:
    before = await database.run(backend)
    with pytest.raises(DatabaseUnavailable, match="statement timeout"):
        await database.run(lambda session: session.execute(text("SELECT pg_sleep(20)")))
    assert await database.run(backend) == before


async def test_a_connection_that_is_cut_is_made_anew(own_postgres: PostgresServer, database: Database) -> None:
    before = await database.run(backend)
    with connect(own_postgres.url) as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s)", [before])
    assert await database.run(backend) != before


async def test_a_process_has_no_more_connections_than_its_pool(
    own_postgres: PostgresServer, database: Database
) -> None:
    await asyncio.gather(*(database.run(lambda session: session.execute(text("SELECT pg_sleep(0.1)"))) for _ in "1234"))
    with connect(own_postgres.url) as administrator:
        (count,) = administrator.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'duologue'"
        ).fetchone() or (0,)
    assert count == 2


async def test_a_server_without_room_for_more_connections_is_unavailable(postgres_url: str) -> None:
    with connect(postgres_url) as administrator:
        administrator.execute("DROP ROLE IF EXISTS crowded")
        administrator.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    database = Database(make_url(postgres_url).set(username="crowded").render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailable, match="too many connections"):
        await database.run(one)
    await database.close()


async def test_deadlocks_are_worth_another_attempt(postgres_url: str) -> None:
    database = Database(postgres_url)
    both = threading.Barrier(2)

    def lock(session: Session, first: int, second: int) -> None:
        session.execute(text(f"SELECT pg_advisory_xact_lock({first})"))
        both.wait(30)
        session.execute(text(f"SELECT pg_advisory_xact_lock({second})"))

    outcomes = await asyncio.gather(
        database.run(lambda session: lock(session, 1001, 1002)),
        database.run(lambda session: lock(session, 1002, 1001)),
        return_exceptions=True,
    )
    (failed,) = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(failed, DatabaseUnavailable)
    assert "deadlock" in str(failed)
    await database.close()


async def test_workers_try_again_what_the_database_was_away_for() -> None:
    (port,) = free_ports(1)
    database = Database(f"postgresql://nobody@127.0.0.1:{port}/x")
    with pytest.raises(Transient, match="database does not answer"), classify_errors():
        await database.run(one)
    await database.close()


@pytest.mark.parametrize("value", ["with a \0 in it", "too long"])
async def test_a_value_that_it_can_not_hold_is_poison(postgres_url: str, value: str) -> None:
    database = Database(postgres_url)
    await database.run(lambda session: session.execute(text("CREATE TABLE thing (name VARCHAR(3))")))
    with pytest.raises(InvalidInput, match="can't be stored"):
        await database.run(lambda session: session.execute(text("INSERT INTO thing VALUES (:name)"), {"name": value}))
    with pytest.raises(Poison), classify_errors():
        await database.run(lambda session: session.execute(text("INSERT INTO thing VALUES (:name)"), {"name": value}))
    await database.close()


async def test_a_database_that_comes_while_the_service_starts_is_waited_for(own_postgres: PostgresServer) -> None:
    own_postgres.kill()
    database = Database(own_postgres.url)
    with structlog.testing.capture_logs() as logs:
        migrating = asyncio.create_task(database.migrate(MIGRATIONS))

        async def has_waited() -> bool:
            return any(line["event"] == "waits for the database" for line in logs)

        await eventually(has_waited, "it says that it waits")
    own_postgres.run()
    async with asyncio.timeout(30):
        await migrating
    await database.close()


async def test_a_database_that_does_not_come_is_not_waited_for_for_ever() -> None:
    (port,) = free_ports(1)
    database = Database(f"postgresql://nobody:s3cret@127.0.0.1:{port}/x", DatabaseOptions(start_seconds=0.1))
    said = r"setting database.url does not answer after 0.1 seconds \(setting database.start_seconds\): .*refused"
    with pytest.raises(DatabaseUnavailable, match=said) as caught:
        await database.migrate(MIGRATIONS)
    assert "s3cret" not in str(caught.value)
    await database.close()


async def test_a_schema_that_is_not_there_is_a_wrong_setting(postgres: str) -> None:
    url = make_url(postgres).update_query_dict({"options": "-csearch_path=nowhere"})
    database = Database(url.render_as_string(hide_password=False))
    with pytest.raises(WrongSetting, match="CREATE SCHEMA"):
        await database.migrate(MIGRATIONS)
    await database.close()


async def test_a_user_who_may_not_create_tables_is_a_wrong_setting(postgres_url: str) -> None:
    with connect(postgres_url) as administrator:
        (schema,) = administrator.execute("SELECT current_schema()").fetchone() or ("",)
        administrator.execute("DROP ROLE IF EXISTS reader")
        administrator.execute("CREATE ROLE reader LOGIN")
        administrator.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
    database = Database(make_url(postgres_url).set(username="reader").render_as_string(hide_password=False))
    with pytest.raises(WrongSetting, match=r"user reader may not create tables.*GRANT USAGE, CREATE"):
        await database.migrate(MIGRATIONS)
    await database.close()
    with connect(postgres_url) as administrator:
        administrator.execute(f"REVOKE USAGE ON SCHEMA {schema} FROM reader")


async def test_the_url_may_say_otherwise(postgres_url: str) -> None:
    """What a team writes into its URL holds over our defaults, and its options over our limits."""
    url = make_url(postgres_url)
    options = f"{url.query['options']} -cstatement_timeout=7000"
    named = url.update_query_dict({"options": options, "application_name": "theirs"}).set(drivername="postgres")
    database = Database(named.render_as_string(hide_password=False))

    def settings(session: Session) -> list[str]:
        names = ("statement_timeout", "application_name", "idle_in_transaction_session_timeout")
        return [session.execute(text(f"SHOW {name}")).scalar_one() for name in names]

    assert await database.run(settings) == ["7s", "theirs", "1min"]
    await database.close()


async def test_a_service_whose_database_does_not_come_ends_with_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "duologue_filtering",
        env={
            "DUOLOGUE_BUS__URL": f"sqlite:///{tmp_path / 'bus.db'}",
            "DUOLOGUE_DATABASE__URL": f"postgresql://duologue:s3cret@127.0.0.1:{port}/x",
            "DUOLOGUE_DATABASE__START_SECONDS": "0",
            "DUOLOGUE_LOG__LEVEL": "error",
        },
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert errors.decode().count("\n") == 1
    assert "setting database.url does not answer after 0 seconds" in errors.decode()
    assert "s3cret" not in errors.decode()
