"""A database is brought up to date by itself, before a release, whoever else does so at the same time."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

import pytest
from sqlalchemy import create_engine, inspect

from duologue_campaign.tables import Base as Campaign
from duologue_filtering.tables import Base as Filtering

TABLES = {"campaign": Campaign.metadata.tables, "filtering": Filtering.metadata.tables}
every_service = pytest.mark.parametrize("service", TABLES)


@dataclass(frozen=True)
class Ended:
    status: int
    said: str


async def migrate(service: str, **settings: object) -> Ended:
    """It has no bus and no other setting."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("DUOLOGUE_")}
    ours = {f"DUOLOGUE_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"duologue_{service}.migrate",
        env={**others, **ours, "DUOLOGUE_BUS__URL": "kafka://127.0.0.1:1"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return Ended(process.returncode or 0, said.decode())


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    found = set(inspect(engine).get_table_names()) - {"alembic_version"}
    engine.dispose()
    return found


@every_service
async def test_jobs_that_start_at_once_make_one_database_and_one_more_changes_nothing(
    service: str, database_url: str
) -> None:
    ended = await asyncio.gather(*(migrate(service, database__url=database_url) for _ in range(2)))
    assert [job.status for job in ended] == [0, 0], ended
    assert tables(database_url) == set(TABLES[service])
    again = await migrate(service, database__url=database_url)
    assert again.status == 0
    assert "the database is up to date" in again.said
    assert tables(database_url) == set(TABLES[service])


@every_service
async def test_a_database_of_the_other_service_is_refused(service: str, postgres_url: str) -> None:
    (other,) = set(TABLES) - {service}
    assert (await migrate(other, database__url=postgres_url)).status == 0
    refused = await migrate(service, database__url=postgres_url)
    assert refused.status == 2
    assert refused.said.startswith("setting database.url: it holds the tables of another service")


@every_service
async def test_a_database_that_is_not_there_ends_the_job_so_that_it_is_tried_again(service: str) -> None:
    url = "postgresql://duologue:s3cret@127.0.0.1:1/duologue"
    ended = await migrate(service, database__url=url, database__start_seconds=0)
    assert ended.status == 1
    assert "does not answer" in ended.said
    assert "s3cret" not in ended.said
    assert "Traceback" not in ended.said
