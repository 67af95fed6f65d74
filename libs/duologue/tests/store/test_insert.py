"""Figures that add up in one row, whoever writes it first."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Integer, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from duologue.store import Database
from duologue.store.insert import add_up


class Base(DeclarativeBase):
    pass


class SumRow(Base):
    __tablename__ = "sum"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    side: Mapped[str] = mapped_column(String(20), primary_key=True)
    gain: Mapped[int] = mapped_column(Integer)
    loss: Mapped[int] = mapped_column(Integer)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.run(lambda session: Base.metadata.create_all(session.connection()))
    yield database
    await database.close()


def row(name: str, side: str, gain: int, loss: int) -> dict[str, object]:
    return {"name": name, "side": side, "gain": gain, "loss": loss}


async def test_rows_of_one_key_add_up_within_and_between_transactions(database: Database) -> None:
    for rows in (
        [row("a", "left", 1, 2), row("a", "left", 10, 20)],
        [row("a", "left", 100, -2), row("a", "right", 5, 0)],
    ):
        await database.run(lambda session, rows=rows: add_up(session, SumRow, rows, ("gain", "loss")))

    def read(session: Session) -> list[tuple[object, ...]]:
        columns = (SumRow.name, SumRow.side, SumRow.gain, SumRow.loss)
        return [tuple(found) for found in session.execute(select(*columns).order_by(SumRow.side))]

    assert await database.run(read) == [("a", "left", 111, 20), ("a", "right", 5, 0)]
