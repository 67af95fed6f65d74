"""A filtering service without its process: real database, bus and artifacts, its handler and its sealer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

import duologue_filtering
from duologue.bus import Record
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import DATASET_SEALED, DIALOGUE_FILTERED
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.store import ArtifactStore, Database, Outbox, Term, WorkflowStore
from duologue_filtering.sealing import Sealer
from duologue_filtering.tables import OUTBOX, CandidateRow, SealRow
from duologue_filtering.worker import CollectCandidate
from tests.support.desk import CAMPAIGN_ID, DESK
from tests.support.eventually import eventually


@dataclass
class House:
    """All parts of the service."""

    database: Database
    bus: EmbeddedBus
    outbox: Outbox
    artifacts: ArtifactStore
    sealer: Sealer
    collect: CollectCandidate

    async def order(self, candidates: int, filters: Sequence[dict[str, Any]] = (), **changes: Any) -> None:
        """Ask for the dataset of round 1, as the control plane does."""
        fields: dict[str, Any] = {
            "dataset_id": "desk-r1",
            "campaign_id": CAMPAIGN_ID,
            "round": 1,
            "candidates": candidates,
            "filters": json.dumps(filters),
            "seed": 3,
            "sealed": False,
        }
        await self.database.run(lambda session: session.add(SealRow(**(fields | changes))))
        self.sealer.wake()

    @contextlib.asynccontextmanager
    async def sealing(self) -> AsyncIterator[asyncio.Task[None]]:
        """The sealer and the relay at work, for the time of the block."""
        tasks = [asyncio.create_task(work(Term())) for work in (self.sealer.run, self.outbox.relay)]
        yield tasks[0]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sealed(self) -> events_pb2.DatasetSealed:
        """The next dataset that is told of, waited for on the topic; decisions are on theirs before it."""
        subscription = await self.bus.subscribe("test", [DATASET_SEALED.name])
        async with asyncio.timeout(20):
            (delivery,) = await subscription.fetch(1)
        await subscription.finish(delivery)
        await subscription.close()
        return events_pb2.DatasetSealed.FromString(delivery.record.value)

    async def decisions(self) -> dict[str, events_pb2.DialogueFiltered]:
        told = [
            events_pb2.DialogueFiltered.FromString(delivery.record.value)
            async for delivery in self.bus.read(DIALOGUE_FILTERED.name)
        ]
        assert len({event.dialogue_id for event in told}) == len(told)
        return {event.dialogue_id: event for event in told}

    async def decided(self, count: int) -> dict[str, events_pb2.DialogueFiltered]:
        """The decisions, once there are so many."""

        async def all_told() -> dict[str, events_pb2.DialogueFiltered] | None:
            decisions = await self.decisions()
            return decisions if len(decisions) >= count else None

        decisions = await eventually(all_told, f"{count} decisions")
        assert decisions is not None
        return decisions

    async def candidates(self) -> list[CandidateRow]:
        return await self.database.run(lambda session: list(session.scalars(select(CandidateRow))))

    async def waiting(self) -> list[Record]:
        """What the outbox holds."""
        rows = await self.database.run(lambda session: session.execute(select(OUTBOX)).all())
        return [Record(row.topic, row.key, row.value) for row in rows]

    def rows(self, data: dialogue_pb2.Artifact) -> list[dict[str, Any]]:
        return list(pq.read_table(BytesIO(self.artifacts.read(data.uri, data.sha256))).to_pylist())


@pytest.fixture
async def house(tmp_path: Path, database_url: str) -> AsyncIterator[House]:
    database = Database(database_url)
    await database.migrate(Path(duologue_filtering.__file__).parent / "migrations")
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    artifacts = ArtifactStore(str(tmp_path / "artifacts"))
    workflows = WorkflowStore(artifacts)
    workflows.put(DESK)
    outbox = Outbox(OUTBOX, database, bus)
    sealer = Sealer(database, outbox, artifacts, workflows)
    yield House(database, bus, outbox, artifacts, sealer, CollectCandidate(database, sealer))
    await bus.close()
    await database.close()
