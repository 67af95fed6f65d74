"""Sealing: a round's decisions and its dataset, once all of its candidates are there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from prometheus_client import Counter
from sqlalchemy import ColumnElement, func, not_, select, update
from sqlalchemy.orm import Session

from duologue.bus import Record, RetryPolicy
from duologue.bus.codec import encode
from duologue.bus.waiting import set_within
from duologue.contracts.convert import check_dialogue, dialogue_from_proto, scores_from_proto
from duologue.contracts.topics import DATASET_SEALED, DIALOGUE_FILTERED
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.store import ArtifactStore, Database, DatabaseUnavailable, Outbox, Term, WorkflowStore
from duologue_filtering.filters import FILTER_KINDS, Decision, decide, dropped_by, parse_filters
from duologue_filtering.rows import SCHEMA, dataset_row
from duologue_filtering.tables import CandidateRow, SealRow

log = structlog.get_logger(__name__)

# Rows in memory at once while a dataset is written.
_ROW_GROUP = 500
_CHECK_SECONDS = 5.0
# Between two looks at what is complete: each counts all candidates of the rounds that are under way.
_PAUSE_SECONDS = 0.05
_RETRY = RetryPolicy(first=_CHECK_SECONDS, longest=600.0)
_LATE = Decision(False, "late", "came after its round was sealed")

_DECIDED = Counter(
    "duologue_dialogues_filtered_total",
    "Dialogues decided on, by the kind of filter that dropped them; kept ones have none.",
    ("decision", "filter"),
)
for _filter in (*FILTER_KINDS, _LATE.dropped_by):
    _DECIDED.labels("dropped", _filter)
_DECIDED.labels("kept", "")


@dataclass(frozen=True, slots=True)
class _Failed:
    """Attempts at sealing a dataset that failed, and when to try again, in seconds of the monotonic clock."""

    attempts: int = 0
    again_at: float = 0.0


class _SealedMeanwhile(Exception):
    """Another process has sealed the dataset, and let go of what it was made of."""


class Sealer:
    """Seals datasets that were asked for, one at a time. Sealing twice, after a crash, gives the same dataset."""

    def __init__(self, database: Database, outbox: Outbox, artifacts: ArtifactStore, workflows: WorkflowStore) -> None:
        self._database = database
        self._outbox = outbox
        self._artifacts = artifacts
        self._workflows = workflows
        self._wake = asyncio.Event()
        self._failed: dict[str, _Failed] = {}

    def wake(self) -> None:
        """Look again: a candidate came, or a dataset was asked for."""
        self._wake.set()

    async def check(self, scored: events_pb2.DialogueScored) -> None:
        """Raises what writing the dialogue into a dataset would raise; the rest can be done with any dialogue."""
        await self._workflows.find(scored.workflow)
        check_dialogue(scored.dialogue)

    async def run(self, term: Term) -> None:
        """Seal what is complete for as long as the term holds."""
        late_at = time.monotonic()
        while term.holds:
            self._wake.clear()
            for dataset_id in await self._database.run(_complete):
                await self._try(dataset_id)
            if time.monotonic() >= late_at:
                while late := await self._database.run(self._tell_late):
                    _count([_LATE] * late)
                    self._outbox.wake()
                late_at = time.monotonic() + _CHECK_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)
            await set_within(self._wake, _CHECK_SECONDS)

    async def _try(self, dataset_id: str) -> None:
        """A dataset that can't be sealed holds up no other: it is tried again after pauses that grow."""
        failed = self._failed.get(dataset_id, _Failed())
        if time.monotonic() < failed.again_at:
            return
        try:
            sealed = await self._seal(dataset_id)
        except DatabaseUnavailable:
            raise  # no fault of the dataset
        except Exception:
            pause = _RETRY.delay(failed.attempts + 1, jitter=random.random())
            self._failed[dataset_id] = _Failed(failed.attempts + 1, time.monotonic() + pause)
            log.exception("sealing failed", dataset=dataset_id, attempts=failed.attempts + 1, again_in=round(pause, 1))
            return
        self._failed.pop(dataset_id, None)
        if sealed is None:
            return
        self._outbox.wake()
        log.info("sealed", dataset=dataset_id, kept=sealed.kept, candidates=sealed.candidates)

    async def _seal(self, dataset_id: str) -> events_pb2.DatasetSealed | None:
        """Decide, write the dataset, and tell: the artifacts first, then all that is told in one transaction.

        None when another process, that still takes itself for the leader, was faster.
        """
        decided = await self._database.run(lambda session: _decide(session, dataset_id))
        if decided is None:
            return None
        seal, decisions = decided
        try:
            sealed = await self._write(seal, decisions)
        except _SealedMeanwhile:
            return None
        if not await self._database.run(lambda session: self._tell(session, sealed, decisions)):
            return None
        _count(decisions.values())
        return sealed

    async def _write(self, seal: SealRow, decisions: dict[str, Decision]) -> events_pb2.DatasetSealed:
        kept = [name for name, decision in decisions.items() if decision.kept]
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "data.parquet"
            # Not in a `with`: when the service stops, a thread may still be writing.
            writer = pq.ParquetWriter(file, SCHEMA, compression="zstd")
            for start in range(0, len(kept), _ROW_GROUP):
                group = kept[start : start + _ROW_GROUP]
                payloads = await self._database.run(lambda session, wanted=group: _payloads(session, wanted))  # type: ignore[misc]
                await asyncio.to_thread(self._write_rows, writer, payloads)
            await asyncio.to_thread(writer.close)
            return await asyncio.to_thread(self._store, file, seal, decisions, kept)

    def _write_rows(self, writer: pq.ParquetWriter, payloads: list[bytes]) -> None:
        rows = [self._row(events_pb2.DialogueScored.FromString(payload)) for payload in payloads]
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))

    def _row(self, scored: events_pb2.DialogueScored) -> dict[str, Any]:
        workflow = self._workflows.get(scored.workflow)
        return dataset_row(dialogue_from_proto(scored.dialogue), scores_from_proto(scored.scores), workflow)

    def _store(
        self, file: Path, seal: SealRow, decisions: dict[str, Decision], kept: list[str]
    ) -> events_pb2.DatasetSealed:
        folder = f"datasets/{seal.dataset_id}"
        data = self._artifacts.write_file(f"{folder}/data.parquet", file)
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

    def _tell(self, session: Session, sealed: events_pb2.DatasetSealed, decisions: dict[str, Decision]) -> bool:
        """Whether it was still to be told."""
        seal = session.get_one(SealRow, sealed.dataset_id, with_for_update=True)
        if seal.sealed:
            return False
        seal.sealed = True
        told = [_filtered(seal.campaign_id, seal.round, name, decision) for name, decision in decisions.items()]
        self._outbox.add(session, [*told, encode(DATASET_SEALED, sealed, "filtering")])
        session.execute(update(CandidateRow).where(CandidateRow.dataset_id == sealed.dataset_id).values(payload=None))
        return True

    def _tell_late(self, session: Session) -> int:
        """Decide on dialogues that came after their round was sealed. How many; there may be more."""
        query = (
            select(CandidateRow.dialogue_id, CandidateRow.campaign_id, CandidateRow.round)
            .join(SealRow, (SealRow.campaign_id == CandidateRow.campaign_id) & (SealRow.round == CandidateRow.round))
            .where(SealRow.sealed, CandidateRow.dataset_id.is_(None), CandidateRow.payload.is_not(None))
            .limit(_ROW_GROUP)
            .with_for_update(of=CandidateRow)  # each is told of once, whoever else looks
        )
        late = session.execute(query).all()
        if not late:
            return 0
        self._outbox.add(session, [_filtered(row.campaign_id, row.round, row.dialogue_id, _LATE) for row in late])
        names = [row.dialogue_id for row in late]
        session.execute(update(CandidateRow).where(CandidateRow.dialogue_id.in_(names)).values(payload=None))
        return len(late)


def _count(decisions: Iterable[Decision]) -> None:
    for decision in decisions:
        _DECIDED.labels("kept" if decision.kept else "dropped", decision.dropped_by).inc()


def _complete(session: Session) -> list[str]:
    """Datasets that were asked for and whose candidates are all there."""
    of_round = (CandidateRow.campaign_id == SealRow.campaign_id) & (CandidateRow.round == SealRow.round)
    query = (
        select(SealRow.dataset_id)
        .outerjoin(CandidateRow, of_round)
        .where(not_(SealRow.sealed))
        .group_by(SealRow.dataset_id)
        .having(func.count(CandidateRow.dialogue_id) >= SealRow.candidates)
        .order_by(SealRow.dataset_id)
    )
    return list(session.scalars(query))


def _decide(session: Session, dataset_id: str) -> tuple[SealRow, dict[str, Decision]] | None:
    """The candidates that are there now are the dataset's, once and for all, and each gets its decision.

    None when it is sealed: what has come since is late, and no more the dataset's.
    """
    seal = session.get_one(SealRow, dataset_id, with_for_update=True)
    if seal.sealed:
        return None
    taken = CandidateRow.dataset_id == dataset_id
    if session.scalar(select(CandidateRow.dialogue_id).where(taken).limit(1)) is None:
        of_round = (CandidateRow.campaign_id == seal.campaign_id, CandidateRow.round == seal.round)
        session.execute(update(CandidateRow).where(*of_round).values(dataset_id=dataset_id))
    return seal, decide(scores_of(session, taken), parse_filters(seal.filters), seal.seed)


def scores_of(session: Session, *conditions: ColumnElement[bool]) -> dict[str, dict[str, object]]:
    """Scores of the candidates that fulfil all conditions, by dialogue id."""
    query = select(CandidateRow.dialogue_id, CandidateRow.scores).where(*conditions)
    return {row.dialogue_id: row.scores for row in session.execute(query)}


def _payloads(session: Session, dialogue_ids: list[str]) -> list[bytes]:
    """In the order of the ids. Raises `_SealedMeanwhile` when they were let go of."""
    query = select(CandidateRow.dialogue_id, CandidateRow.payload).where(CandidateRow.dialogue_id.in_(dialogue_ids))
    found = {row.dialogue_id: row.payload for row in session.execute(query)}
    payloads = [found[name] for name in dialogue_ids]
    if None in payloads:
        raise _SealedMeanwhile
    return payloads


def _filtered(campaign_id: str, round_: int, dialogue_id: str, decision: Decision) -> Record:
    filtered = events_pb2.DialogueFiltered(
        dialogue_id=dialogue_id,
        campaign_id=campaign_id,
        round=round_,
        kept=decision.kept,
        reason=decision.reason,
        dropped_by=decision.dropped_by,
    )
    return encode(DIALOGUE_FILTERED, filtered, "filtering")


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
