"""Sealing: a round's decisions and its dataset, once all of its candidates are there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.convert import dialogue_from_proto, scores_from_proto
from duologue.contracts.topics import DATASET_SEALED, DIALOGUE_FILTERED
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.store import ArtifactStore, Database, Outbox, WorkflowShelf
from duologue_filtering.filters import Decision, decide, dropped_by, parse_filters
from duologue_filtering.rows import SCHEMA, dataset_row
from duologue_filtering.tables import CandidateRow, SealRow

log = structlog.get_logger(__name__)

# Rows in memory at once while a dataset is written.
_ROW_GROUP = 500
_CHECK_SECONDS = 5.0


class Sealer:
    """Seals datasets that were asked for, one at a time. Sealing twice, after a crash, gives the same dataset."""

    def __init__(self, database: Database, outbox: Outbox, artifacts: ArtifactStore, workflows: WorkflowShelf) -> None:
        self._database = database
        self._outbox = outbox
        self._artifacts = artifacts
        self._workflows = workflows
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look again: a candidate came, or a dataset was asked for."""
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            for dataset_id in await self._database.run(_complete):
                sealed = await self._database.run(lambda session, wanted=dataset_id: self._seal(session, wanted))  # type: ignore[misc]
                self._outbox.wake()
                log.info("sealed", dataset=dataset_id, kept=sealed.kept, candidates=sealed.candidates)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_SECONDS):  # before 3.12 wait_for may swallow the cancellation
                    await self._wake.wait()

    def _seal(self, session: Session, dataset_id: str) -> events_pb2.DatasetSealed:
        """Decide, write the dataset, and tell: the artifacts first, the rest in one transaction."""
        seal = session.get_one(SealRow, dataset_id)
        decisions = decide(round_scores(session, seal.campaign_id, seal.round), parse_filters(seal.filters), seal.seed)
        sealed = self._write(session, seal, decisions)
        seal.sealed = True
        self._outbox.add(session, [*_told(seal, decisions), encode(DATASET_SEALED, sealed, "filtering")])
        of_round = (CandidateRow.campaign_id == seal.campaign_id, CandidateRow.round == seal.round)
        session.execute(update(CandidateRow).where(*of_round).values(payload=None))
        return sealed

    def _write(self, session: Session, seal: SealRow, decisions: dict[str, Decision]) -> events_pb2.DatasetSealed:
        kept = [name for name, decision in decisions.items() if decision.kept]
        folder = f"datasets/{seal.dataset_id}"
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "data.parquet"
            with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                for start in range(0, len(kept), _ROW_GROUP):
                    rows = self._rows(session, kept[start : start + _ROW_GROUP])
                    writer.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA))
            data = self._artifacts.write(f"{folder}/data.parquet", file.read_bytes())
        manifest = self._artifacts.write(f"{folder}/manifest.json", _manifest(seal, decisions, kept, data.sha256))
        return events_pb2.DatasetSealed(
            dataset_id=seal.dataset_id,
            campaign_id=seal.campaign_id,
            round=seal.round,
            candidates=len(decisions),
            kept=len(kept),
            data=dialogue_pb2.Artifact(uri=data.uri, sha256=data.sha256),
            manifest=dialogue_pb2.Artifact(uri=manifest.uri, sha256=manifest.sha256),
        )

    def _rows(self, session: Session, dialogue_ids: list[str]) -> Iterator[dict[str, Any]]:
        query = select(CandidateRow.payload).where(CandidateRow.dialogue_id.in_(dialogue_ids))
        for payload in session.scalars(query.order_by(CandidateRow.dialogue_id)):
            scored = events_pb2.DialogueScored.FromString(payload or b"")
            workflow = self._workflows.get(scored.workflow)
            yield dataset_row(dialogue_from_proto(scored.dialogue), scores_from_proto(scored.scores), workflow)


def _complete(session: Session) -> list[str]:
    """Datasets that were asked for and whose candidates are all there."""
    present = (
        select(func.count())
        .select_from(CandidateRow)
        .where(CandidateRow.campaign_id == SealRow.campaign_id, CandidateRow.round == SealRow.round)
        .scalar_subquery()
    )
    query = select(SealRow.dataset_id).where(SealRow.sealed.is_(False), present >= SealRow.candidates)
    return list(session.scalars(query))


def round_scores(session: Session, campaign_id: str, round_: int) -> dict[str, dict[str, object]]:
    """Scores of a round's candidates by dialogue id."""
    query = select(CandidateRow.dialogue_id, CandidateRow.scores).where(
        CandidateRow.campaign_id == campaign_id, CandidateRow.round == round_
    )
    return {row.dialogue_id: row.scores for row in session.execute(query)}


def _told(seal: SealRow, decisions: dict[str, Decision]) -> Iterable[Record]:
    for name, decision in decisions.items():
        filtered = events_pb2.DialogueFiltered(
            dialogue_id=name,
            campaign_id=seal.campaign_id,
            round=seal.round,
            kept=decision.kept,
            reason=decision.reason,
            dropped_by=decision.dropped_by,
        )
        yield encode(DIALOGUE_FILTERED, filtered, "filtering")


def _manifest(seal: SealRow, decisions: dict[str, Decision], kept: list[str], data_sha256: str) -> bytes:
    """What the dataset was made of and how. Nothing in it depends on when it was made."""
    manifest = {
        "dataset_id": seal.dataset_id,
        "campaign_id": seal.campaign_id,
        "round": seal.round,
        "filters": json.loads(seal.filters or "[]"),
        "seed": seal.seed,
        "candidates": len(decisions),
        "kept": len(kept),
        "dropped_by": dropped_by(decisions),
        "data_sha256": data_sha256,
        "schema_sha256": hashlib.sha256(str(SCHEMA).encode()).hexdigest(),
        "dialogue_ids": kept,
    }
    return json.dumps(manifest, indent=2).encode()
