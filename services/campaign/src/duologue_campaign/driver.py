"""What the clock drives: datasets that filtering must be asked for, budgets, and phases that stand still."""

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
from duologue.store import Database, DatabaseUnavailable, Outbox, Term
from duologue_campaign.changes import Changes
from duologue_campaign.phases import DONE, RUNNING, SEALING, TRAINING
from duologue_campaign.progress import TrainingProgress
from duologue_campaign.settings import Settings
from duologue_campaign.specs import Specs
from duologue_campaign.state import StateMachine
from duologue_campaign.tables import CampaignRow, RoundRow

log = structlog.get_logger(__name__)

_CHECK_SECONDS = 2.0
_CALL_SECONDS = 10.0
# What filtering says no to today it says no to tomorrow.
_PERMANENT = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)


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
        progress: TrainingProgress,
        settings: Settings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._machine = machine
        self._specs = specs
        self._outbox = outbox
        self._changes = changes
        self._filtering = filtering
        self._progress = progress
        self._settings = settings
        self._clock = clock
        self._began = clock()

    async def run(self, term: Term) -> None:
        """Look for as long as the term holds."""
        self._began = self._clock()
        while term.holds:
            await self.look()
            await self._changes.wait(_CHECK_SECONDS)

    async def look(self) -> None:
        """Do for every running campaign what is due. One that can't be worked with is paused; the others go on."""
        phases = await self._database.run(_running)
        trains = TRAINING in phases.values() and await self._progress.moves()
        for campaign_id, phase in phases.items():
            try:
                await self._drive(campaign_id, progress=trains and phase == TRAINING)
            except DatabaseUnavailable:
                raise  # no fault of the campaign
            except Exception as error:
                log.exception("campaign can't be driven", campaign=campaign_id)
                await self._pause(campaign_id, f"{type(error).__name__}: {error}")

    async def _drive(self, campaign_id: str, *, progress: bool) -> None:
        moved, order = await self._database.run(lambda session: self._move(session, campaign_id, progress=progress))
        if moved:
            self._outbox.wake()
            self._changes.tell()
        if order is not None:
            await self._ask_for(order)

    def _move(self, session: Session, campaign_id: str, *, progress: bool) -> tuple[bool, pb.SealDatasetRequest | None]:
        """Whether the campaign moved, and the dataset to ask filtering for."""
        row = session.get_one(CampaignRow, campaign_id, with_for_update=True)
        if row.state != RUNNING:
            return False, None
        current = row.history[-1]
        if progress:
            current.progress_at = self._clock()
        # Time in which this service or its database was down is no standstill: what came meanwhile waits on the topics.
        if max(current.progress_at, self._began) < self._clock() - self._settings.reissue_seconds:
            self._machine.stand_still(session, row, self._settings.reissues)
            moved = True
        else:
            moved = self._machine.advance(session, row)  # a budget of time may be spent
        current = row.history[-1]
        return moved, self._order(row, current) if row.state == RUNNING and current.phase == SEALING else None

    def _order(self, row: CampaignRow, current: RoundRow) -> pb.SealDatasetRequest:
        """Asking again for a dataset changes nothing, so it is asked for until it is there."""
        spec = self._specs.of(row).spec
        filters: list[Any] = [rule.model_dump() for rule in spec.filters]
        return pb.SealDatasetRequest(
            dataset_id=current.dataset_id,
            campaign_id=row.id,
            round=current.number,
            candidates=current.candidates,
            filters=json.dumps(filters),
            seed=spec.seed,
        )

    async def _ask_for(self, order: pb.SealDatasetRequest) -> None:
        try:
            await self._filtering.SealDataset(order, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            log.warning("filtering did not take the order", dataset=order.dataset_id, error=error.details())
            if error.code() in _PERMANENT:
                await self._pause(order.campaign_id, f"filtering refuses dataset {order.dataset_id}: {error.details()}")

    async def _pause(self, campaign_id: str, reason: str) -> None:
        def pause(session: Session) -> None:
            row = session.get_one(CampaignRow, campaign_id, with_for_update=True)
            if row.state == RUNNING:
                self._machine.pause(row, reason)

        await self._database.run(pause)
        self._changes.tell()


def _running(session: Session) -> dict[str, str]:
    """Phases of the running campaigns by campaign id."""
    query = select(RoundRow.campaign_id, RoundRow.phase).join(CampaignRow)
    found = session.execute(query.where(CampaignRow.state == RUNNING, RoundRow.phase != DONE))
    return {row.campaign_id: row.phase for row in found}
