"""Commands and questions to the filtering service."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import filtering_pb2 as pb
from duologue.contracts.v1 import filtering_pb2_grpc
from duologue.runtime.errors import NotPossible
from duologue.store import Database
from duologue_filtering.filters import decide, dropped_by, parse_filters
from duologue_filtering.sealing import Sealer, round_scores
from duologue_filtering.tables import CandidateRow, SealRow


class FilteringRpc(filtering_pb2_grpc.FilteringServiceServicer):
    """See protos/duologue/v1/filtering.proto."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def SealDataset(self, request: pb.SealDatasetRequest, context: Any) -> pb.SealDatasetResponse:
        parse_filters(request.filters)  # a wrong filter is the caller's to hear of, not the sealer's to fail on

        def ask(session: Session) -> pb.SealDatasetResponse:
            seal = session.get(SealRow, request.dataset_id)
            if seal is None:
                _refuse_second(session, request)
                seal = SealRow(
                    dataset_id=request.dataset_id,
                    campaign_id=request.campaign_id,
                    round=request.round,
                    candidates=request.candidates,
                    filters=request.filters,
                    seed=request.seed,
                    sealed=False,
                )
                session.add(seal)
            present = _present(session, request.campaign_id, request.round)
            return pb.SealDatasetResponse(present=present, sealed=seal.sealed)

        response = await self._database.run(ask)
        self._sealer.wake()
        return response

    async def PreviewFilters(self, request: pb.PreviewFiltersRequest, context: Any) -> pb.PreviewFiltersResponse:
        filters = parse_filters(request.filters)

        def preview(session: Session) -> pb.PreviewFiltersResponse:
            decisions = decide(round_scores(session, request.campaign_id, request.round), filters, request.seed)
            return pb.PreviewFiltersResponse(
                candidates=len(decisions),
                kept=sum(decision.kept for decision in decisions.values()),
                dropped_by=dropped_by(decisions),
            )

        return await self._database.run(preview)


def _refuse_second(session: Session, request: pb.SealDatasetRequest) -> None:
    """A round is sealed once: after that its dialogues are only in its dataset."""
    query = select(SealRow.dataset_id).where(SealRow.campaign_id == request.campaign_id, SealRow.round == request.round)
    first = session.scalar(query)
    if first is not None:
        raise NotPossible(f"round {request.round} of campaign {request.campaign_id} goes into dataset {first}")


def _present(session: Session, campaign_id: str, round_: int) -> int:
    query = (
        select(func.count())
        .select_from(CandidateRow)
        .where(CandidateRow.campaign_id == campaign_id, CandidateRow.round == round_)
    )
    return session.scalar(query) or 0
