"""Many small writes in few transactions, as if each had one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import Integer, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from duologue.store import Database, DatabaseUnavailable, GroupCommit
from duologue.store.insert import insert_all_once


class Base(DeclarativeBase):
    pass


class ThingRow(Base):
    __tablename__ = "thing"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(Integer)


class Writing:
    """Inserts things; `transactions` are how many at a time."""

    def __init__(self) -> None:
        self.transactions: list[int] = []
        self.is_away = False

    def __call__(self, session: Session, things: Sequence[tuple[str, int]]) -> None:
        if self.is_away:
            raise DatabaseUnavailable("away")
        for _, number in things:
            if number < 0:
                raise ValueError(f"{number} is no number of things")
        self.transactions.append(len(things))
        insert_all_once(session, ThingRow, [{"name": name, "number": number} for name, number in things])


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.run(lambda session: Base.metadata.create_all(session.connection()))
    yield database
    await database.close()


async def things_of(database: Database) -> dict[str, int]:
    def read(session: Session) -> dict[str, int]:
        return {row.name: row.number for row in session.execute(select(ThingRow.name, ThingRow.number))}

    return await database.run(read)


async def test_what_waits_goes_into_one_transaction_and_is_there_on_return(database: Database) -> None:
    writing = Writing()
    commit = GroupCommit(database, writing)

    async def add(number: int) -> None:
        await commit.add((f"thing-{number}", number))
        assert (await things_of(database))[f"thing-{number}"] == number

    await asyncio.gather(*(add(number) for number in range(100)))
    assert len(await things_of(database)) == sum(writing.transactions) == 100
    assert len(writing.transactions) < 100
    await add(100)  # after a time with nothing to do


async def test_a_thing_that_comes_twice_is_there_once_and_stays_as_it_was(database: Database) -> None:
    commit = GroupCommit(database, Writing())
    await commit.add(("thing", 1))
    await asyncio.gather(*(commit.add(("thing", number)) for number in (2, 3)))
    assert await things_of(database) == {"thing": 1}


async def test_one_that_cannot_be_written_costs_the_others_nothing(database: Database) -> None:
    commit = GroupCommit(database, Writing())
    results = await asyncio.gather(
        *(commit.add((f"thing-{number}", -1 if number == 7 else number)) for number in range(20)),
        return_exceptions=True,
    )
    assert [type(result) for result in results].count(ValueError) == 1
    assert isinstance(results[7], ValueError)
    assert len(await things_of(database)) == 19


async def test_an_outage_is_told_to_all_who_wait_and_the_next_go_well(database: Database) -> None:
    writing = Writing()
    commit = GroupCommit(database, writing)
    writing.is_away = True
    results = await asyncio.gather(*(commit.add((str(number), number)) for number in range(5)), return_exceptions=True)
    assert all(isinstance(result, DatabaseUnavailable) for result in results)
    writing.is_away = False
    await commit.add(("thing", 1))
    assert await things_of(database) == {"thing": 1}


async def test_one_who_gives_up_waiting_stops_nobody(database: Database) -> None:
    commit = GroupCommit(database, Writing())
    adding = [asyncio.create_task(commit.add((str(number), number))) for number in range(10)]
    await asyncio.sleep(0)
    adding[0].cancel()
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None] * 9
    assert len(await things_of(database)) >= 9
