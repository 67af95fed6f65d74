"""What the clock drives: datasets that filtering must be asked for, and rounds that stand still."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import filtering_pb2 as pb
from duologue.contracts.v1 import filtering_pb2_grpc
from duologue.store import Database, Outbox
from duologue_campaign.changes import Changes
from duologue_campaign.settings import Settings
from duologue_campaign.specs import Specs
from duologue_campaign.state import RUNNING, SEALING, SPLIT_OF_PHASE, StateMachine
from duologue_campaign.tables import CampaignRow

log = structlog.get_logger(__name__)

_CHECK_SECONDS = 2.0
_CALL_SECONDS = 10.0


class Driver:
    """Looks at the running campaigns now and then, and after every change."""

    def __init__(
        self,
        database: Database,
        machine: StateMachine,
        specs: Specs,
        outbox: Outbox,
        changes: Changes,
        filtering: filtering_pb2_grpc.FilteringServiceAsyncStub,
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._machine = machine
        self._specs = specs
        self._outbox = outbox
        self._changes = changes
        self._filtering = filtering
        self._settings = settings
        self._clock = clock
        self._began = clock()

    async def run(self) -> None:
        while True:
            for request in await self._database.run(self._seals):
                await self._ask_for(request)
            if await self._database.run(self._reissue):
                self._outbox.wake()
                self._changes.tell()
            await self._changes.wait(_CHECK_SECONDS)

    def _seals(self, session: Session) -> list[pb.SealDatasetRequest]:
        """Asking again for a dataset changes nothing, so it is asked for until it is there."""
        return [
            pb.SealDatasetRequest(
                dataset_id=row.history[-1].dataset_id,
                campaign_id=row.id,
                round=row.history[-1].number,
                candidates=row.history[-1].candidates,
                filters=self._filters(row),
                seed=self._specs.of(row).spec.seed,
            )
            for row in _running(session)
            if row.history[-1].phase == SEALING
        ]

    def _filters(self, row: CampaignRow) -> str:
        filters: list[Any] = [rule.model_dump() for rule in self._specs.of(row).spec.filters]
        return json.dumps(filters)

    async def _ask_for(self, request: pb.SealDatasetRequest) -> None:
        try:
            await self._filtering.SealDataset(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            log.warning("filtering did not take the order", dataset=request.dataset_id, error=str(error))

    def _reissue(self, session: Session) -> bool:
        """Time in which this service was down is no standstill: what came meanwhile waits on the topics."""
        changed = False
        deadline = self._clock() - self._settings.reissue_seconds
        for row in _running(session):
            current = row.history[-1]
            if current.phase in SPLIT_OF_PHASE and max(current.progress_at, self._began) < deadline:
                self._machine.reissue(session, row, self._settings.reissues)
                changed = True
        return changed


def _running(session: Session) -> list[CampaignRow]:
    return list(session.scalars(select(CampaignRow).where(CampaignRow.state == RUNNING).with_for_update()))
