"""Records that a SQL transaction causes: written in that transaction, brought to the bus after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Double, Integer, LargeBinary, MetaData, String, Table, Text, delete, insert, select
from sqlalchemy import Column as SqlColumn
from sqlalchemy.orm import Session

from duologue.bus import Bus, Record
from duologue.bus.spans import sending
from duologue.bus.waiting import set_within
from duologue.store.database import Database
from duologue.store.leader import Term
from duologue.store.migrations import OUTBOX

_BATCH = 500
_CHECK_SECONDS = 5.0
# What another replica adds wakes nobody here.
_CHECK_SHARED_SECONDS = 0.2


def outbox_table(metadata: MetaData) -> Table:
    """The table; every service that writes SQL has one in its migrations."""
    return Table(
        OUTBOX,
        metadata,
        SqlColumn("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        SqlColumn("topic", String(255), nullable=False),
        SqlColumn("key", String(255), nullable=False),
        SqlColumn("value", LargeBinary, nullable=False),
        SqlColumn("headers", Text, nullable=False),
        SqlColumn("not_before", Double, nullable=False),
    )


class Outbox:
    """Writes records beside the state that they tell of, and relays them, oldest first, at least once.

    One process relays: two at once would publish every record twice, and an older one after a newer.
    """

    def __init__(self, table: Table, database: Database, bus: Bus) -> None:
        self._table = table
        self._database = database
        self._bus = bus
        self._wake = asyncio.Event()

    def add(self, session: Session, records: Sequence[Record]) -> None:
        """Part of the transaction of `session`. Call `wake` once it is committed."""
        if records:
            session.execute(insert(self._table), [_row_of(record) for record in records])

    def wake(self) -> None:
        self._wake.set()

    async def relay(self, term: Term) -> None:
        """Bring records to the bus while the term holds. What a crash left behind goes first."""
        pause = _CHECK_SHARED_SECONDS if self._database.is_shared else _CHECK_SECONDS
        while term.holds:
            self._wake.clear()
            while await self._relay_batch(term):
                pass
            await set_within(self._wake, pause)

    async def _relay_batch(self, term: Term) -> bool:
        """True when there may be more."""
        table = self._table
        rows = await self._database.run(
            lambda session: session.execute(select(table).order_by(table.c.id).limit(_BATCH)).all()
        )
        if not rows or not term.holds:
            return False
        records = [Record(row.topic, row.key, row.value, json.loads(row.headers), row.not_before) for row in rows]
        with sending(records):
            await self._bus.publish(records)
        relayed = [row.id for row in rows]
        await self._database.run(lambda session: session.execute(delete(table).where(table.c.id.in_(relayed))))
        return len(rows) == _BATCH


def _row_of(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "key": record.key,
        "value": record.value,
        "headers": json.dumps(record.headers),
        "not_before": record.not_before,
    }
