"""Commands and questions to the filtering service."""

from __future__ import annotations

from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import filtering_pb2 as pb
from duologue.contracts.v1 import filtering_pb2_grpc
from duologue.core.problems import InvalidInput, Problem
from duologue.runtime.errors import NotPossible
from duologue.store import Database, check_name
from duologue.store.insert import insert_once
from duologue_filtering.filters import decide, dropped_by, parse_filters
from duologue_filtering.sealing import Sealer, scores_of
from duologue_filtering.tables import UUID_LENGTH, CandidateRow, SealRow


class FilteringRpc(filtering_pb2_grpc.FilteringServiceServicer):
    """See protos/duologue/v1/filtering.proto."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def SealDataset(self, request: pb.SealDatasetRequest, context: Any) -> pb.SealDatasetResponse:
        _check(request)

        def ask(session: Session) -> None:
            is_new = insert_once(
                session,
                SealRow,
                dataset_id=request.dataset_id,
                campaign_id=request.campaign_id,
                round=request.round,
                candidates=request.candidates,
                filters=request.filters,
                seed=request.seed,
                sealed=False,
            )
            if not is_new:
                _refuse_second(session, request)

        await self._database.run(ask)
        self._sealer.wake()
        return pb.SealDatasetResponse()

    async def PreviewFilters(self, request: pb.PreviewFiltersRequest, context: Any) -> pb.PreviewFiltersResponse:
        filters = parse_filters(request.filters)

        def preview(session: Session) -> pb.PreviewFiltersResponse:
            candidates = scores_of(
                session,
                CandidateRow.campaign_id == request.campaign_id,
                CandidateRow.round == request.round,
                or_(CandidateRow.payload.is_not(None), CandidateRow.dataset_id.is_not(None)),  # not the late ones
            )
            decisions = decide(candidates, filters, request.seed)
            return pb.PreviewFiltersResponse(
                candidates=len(decisions),
                kept=sum(decision.kept for decision in decisions.values()),
                dropped_by=dropped_by(decisions),
            )

        return await self._database.run(preview)


def _check(request: pb.SealDatasetRequest) -> None:
    """What could never be stored or sealed is the caller's to hear of, not the sealer's to fail on."""
    parse_filters(request.filters)
    check_name("dataset_id", request.dataset_id)
    claims = (
        ("campaign_id", 1 <= len(request.campaign_id) <= UUID_LENGTH, f"has 1 to {UUID_LENGTH} characters"),
        ("round", request.round >= 1, "counts from 1"),
        ("candidates", 0 <= request.candidates < 2**31, "is from 0 to 2147483647"),
        ("seed", 0 <= request.seed < 2**31, "is from 0 to 2147483647"),
    )
    if wrong := [Problem(field, 0, message) for field, holds, message in claims if not holds]:
        raise InvalidInput(wrong)


def _refuse_second(session: Session, request: pb.SealDatasetRequest) -> None:
    """A round is sealed once: after that its dialogues are only in its dataset."""
    if session.get(SealRow, request.dataset_id) is None:
        of_round = (SealRow.campaign_id == request.campaign_id, SealRow.round == request.round)
        first = session.scalars(select(SealRow.dataset_id).where(*of_round)).one()
        raise NotPossible(f"round {request.round} of campaign {request.campaign_id} goes into dataset {first}")
