"""Commands and questions to the control plane."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc
from duologue.core.problems import InvalidInput, Problem
from duologue.runtime.errors import NotFound, NotPossible
from duologue.store import Database, Outbox, WorkflowStore
from duologue_campaign import views
from duologue_campaign.canaries import compare_canary, newest_canary
from duologue_campaign.changes import Changes
from duologue_campaign.phases import CANCELLED, PAUSED, RUNNING
from duologue_campaign.prices import Prices
from duologue_campaign.progress import TrainingProgress
from duologue_campaign.quota import Quota
from duologue_campaign.releases import begin_canary, release, roll_back
from duologue_campaign.specs import Specs, read_spec
from duologue_campaign.state import StateMachine
from duologue_campaign.tables import LONGEST_REQUEST_ID, AdapterRow, CampaignRow, DatasetRow, DialogueRow
from duologue_campaign.tracking import Tracking

T = TypeVar("T")

_PAGE = 50
_LARGEST_PAGE = 1000
_WATCH_SECONDS = 1.0
_CAMPAIGNS = uuid.UUID("6a2fb1a6-3c1e-4f3c-9f64-0d0c2f0b7a55")
_TOKEN = re.compile(r"[0-9]{1,15}")


class CampaignRpc(campaign_pb2_grpc.CampaignServiceServicer):
    """See protos/duologue/v1/campaign.proto."""

    def __init__(
        self,
        database: Database,
        machine: StateMachine,
        specs: Specs,
        outbox: Outbox,
        changes: Changes,
        workflows: WorkflowStore,
        progress: TrainingProgress,
        prices: Prices,
        quota: Quota,
        tracking: Tracking,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._machine = machine
        self._specs = specs
        self._outbox = outbox
        self._changes = changes
        self._workflows = workflows
        self._progress = progress
        self._prices = prices
        self._quota = quota
        self._tracking = tracking
        self._clock = clock

    async def CreateCampaign(self, request: pb.CreateCampaignRequest, context: Any) -> pb.CreateCampaignResponse:
        files = {file.name: file.text for file in request.files}
        campaign = read_spec(request.spec.text, request.spec.name or "<spec>", files)
        for workflow in (*campaign.training_workflows, *campaign.held_out_workflows):
            await asyncio.to_thread(self._workflows.put, workflow)
        request_id = _checked_request_id(request.request_id) or str(uuid.uuid4())

        def create(session: Session) -> pb.Campaign:
            row = session.scalar(select(CampaignRow).where(CampaignRow.request_id == request_id))
            if row is None:
                self._quota.check(session, campaign.spec)
                row = CampaignRow(
                    id=str(uuid.uuid5(_CAMPAIGNS, request_id)),  # and with it its dialogues' ids
                    name=campaign.spec.campaign,
                    request_id=request_id,
                    state=RUNNING,
                    reason="",
                    spec_version=campaign.version,
                    spec={"name": request.spec.name or "<spec>", "text": request.spec.text},
                    files=files,
                    current_adapter_id="",
                    prompt_tokens=0,
                    completion_tokens=0,
                    model_seconds=0.0,
                    created_at=self._clock(),
                )
                session.add(row)
                session.flush()
                self._machine.begin(session, row)
            return views.whole_campaign_view(session, row, self._clock(), self._prices)

        try:
            created = await self._change(create)
        except IntegrityError:  # the same request came twice at once, and the other one was first
            created = await self._change(create)
        return pb.CreateCampaignResponse(campaign=created)

    async def GetCampaign(self, request: pb.GetCampaignRequest, context: Any) -> pb.GetCampaignResponse:
        def find(session: Session) -> pb.Campaign:
            row = session.get_one(CampaignRow, _campaign_id(session, request.campaign))
            return views.whole_campaign_view(session, row, self._clock(), self._prices)

        return pb.GetCampaignResponse(campaign=await self._database.run(find))

    async def ListCampaigns(self, request: pb.ListCampaignsRequest, context: Any) -> pb.ListCampaignsResponse:
        size, start = _page(request.page_size, request.page_token)

        def find(session: Session) -> list[pb.Campaign]:
            query = (
                select(CampaignRow)
                .order_by(CampaignRow.created_at.desc(), CampaignRow.id)
                .offset(start)
                .limit(size + 1)
            )
            return [views.campaign_view(session, row, self._clock(), self._prices) for row in session.scalars(query)]

        found = await self._database.run(find)
        return pb.ListCampaignsResponse(campaigns=found[:size], next_page_token=_next(found, start, size))

    async def WatchCampaign(
        self, request: pb.WatchCampaignRequest, context: Any
    ) -> AsyncIterator[pb.WatchCampaignResponse]:
        campaign_id = await self._database.run(lambda session: _campaign_id(session, request.campaign))
        sent: pb.WatchCampaignResponse | None = None
        newest = ""

        def find(session: Session) -> pb.WatchCampaignResponse:
            row = session.get_one(CampaignRow, campaign_id)
            campaign = views.campaign_view(session, row, self._clock(), self._prices)
            return pb.WatchCampaignResponse(campaign=campaign, latest=self._newest(session, campaign_id, newest))

        while True:
            response = await self._database.run(find)
            if response.HasField("latest"):
                newest = response.latest.dialogue.id
            campaign = response.campaign
            current = campaign.history[-1]
            if current.phase == pb.ROUND_PHASE_TRAINING:
                share, loss, waits_for = await self._progress.of(current.adapter_id)
                response.training_progress, response.training_loss = share, loss
                response.training_waits_for = waits_for
            if response != sent:
                yield response
                sent = response
            if campaign.finished_at:
                return
            await self._changes.wait(_WATCH_SECONDS)

    async def PauseCampaign(self, request: pb.PauseCampaignRequest, context: Any) -> pb.PauseCampaignResponse:
        return pb.PauseCampaignResponse(campaign=await self._turn(request.campaign, PAUSED, {RUNNING, PAUSED}))

    async def ResumeCampaign(self, request: pb.ResumeCampaignRequest, context: Any) -> pb.ResumeCampaignResponse:
        return pb.ResumeCampaignResponse(campaign=await self._turn(request.campaign, RUNNING, {RUNNING, PAUSED}))

    async def CancelCampaign(self, request: pb.CancelCampaignRequest, context: Any) -> pb.CancelCampaignResponse:
        allowed = {RUNNING, PAUSED, CANCELLED}
        return pb.CancelCampaignResponse(campaign=await self._turn(request.campaign, CANCELLED, allowed))

    async def ListDialogues(self, request: pb.ListDialoguesRequest, context: Any) -> pb.ListDialoguesResponse:
        size, start = _page(request.page_size, request.page_token)

        def find(session: Session) -> list[pb.DialogueRecord]:
            query = select(DialogueRow).where(DialogueRow.campaign_id == _campaign_id(session, request.campaign))
            split = views.split_name(request.split)
            if request.round:
                query = query.where(DialogueRow.round == request.round)
            if split is not None:
                query = query.where(DialogueRow.split == split)
            if request.decision:
                query = query.where(DialogueRow.decision == request.decision)
            query = query.order_by(DialogueRow.round, DialogueRow.split.desc(), DialogueRow.index)
            rows = session.scalars(query.offset(start).limit(size + 1))
            return [views.dialogue_view(row, self._prices, with_turns=False) for row in rows]

        found = await self._database.run(find)
        return pb.ListDialoguesResponse(dialogues=found[:size], next_page_token=_next(found, start, size))

    async def GetDialogue(self, request: pb.GetDialogueRequest, context: Any) -> pb.GetDialogueResponse:
        def find(session: Session) -> pb.GetDialogueResponse:
            row = session.get_one(DialogueRow, _id(session, DialogueRow.id, request.dialogue, "dialogue"))
            record = views.dialogue_view(row, self._prices, with_turns=True)
            return pb.GetDialogueResponse(record=record, workflow=views.workflow_ref(row))

        return await self._database.run(find)

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Any) -> pb.ListDatasetsResponse:
        def find(session: Session) -> list[pb.Dataset]:
            query = select(DatasetRow).order_by(DatasetRow.created_at.desc(), DatasetRow.id)
            if request.campaign:
                query = query.where(DatasetRow.campaign_id == _campaign_id(session, request.campaign))
            return [views.dataset_view(row) for row in session.scalars(query)]

        return pb.ListDatasetsResponse(datasets=await self._database.run(find))

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Any) -> pb.GetDatasetResponse:
        def find(session: Session) -> pb.Dataset:
            dataset_id = _id(session, DatasetRow.id, request.dataset, "dataset")
            return views.dataset_view(session.get_one(DatasetRow, dataset_id))

        return pb.GetDatasetResponse(dataset=await self._database.run(find))

    async def ListAdapters(self, request: pb.ListAdaptersRequest, context: Any) -> pb.ListAdaptersResponse:
        def find(session: Session) -> list[pb.Adapter]:
            query = select(AdapterRow).order_by(AdapterRow.created_at.desc(), AdapterRow.id)
            if request.campaign:
                query = query.where(AdapterRow.campaign_id == _campaign_id(session, request.campaign))
            return [views.adapter_view(session, row) for row in session.scalars(query)]

        return pb.ListAdaptersResponse(adapters=await self._database.run(find))

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Any) -> pb.GetAdapterResponse:
        def find(session: Session) -> pb.Adapter:
            row = _adapter(session, request.adapter)
            view = views.adapter_view(session, row)
            self._compare_canary(session, row, view)
            return view

        return pb.GetAdapterResponse(adapter=await self._database.run(find))

    async def PromoteAdapter(self, request: pb.PromoteAdapterRequest, context: Any) -> pb.PromoteAdapterResponse:
        share = _checked_share(request.canary)

        def promote(session: Session) -> pb.Adapter:
            row = _adapter(session, request.adapter)
            if row.state in ("training", "failed"):
                raise NotPossible(f"adapter {row.id} can't answer: it is {row.state}")
            now = self._clock()
            told = begin_canary(session, row, share, now) if share else release(session, row, "promote", now)
            self._outbox.add(session, told)
            return views.adapter_view(session, row)

        return pb.PromoteAdapterResponse(adapter=await self._change(promote))

    async def RollbackAdapter(self, request: pb.RollbackAdapterRequest, context: Any) -> pb.RollbackAdapterResponse:
        def undo(session: Session) -> pb.RollbackAdapterResponse:
            back = roll_back(session, request.agent, self._clock())
            self._outbox.add(session, [back.told])
            row = session.get(AdapterRow, back.adapter_id) if back.adapter_id else None
            view = views.adapter_view(session, row) if row is not None else pb.Adapter(agent=request.agent)
            return pb.RollbackAdapterResponse(adapter=view, ended_canary=back.ended_canary)

        return await self._change(undo)

    async def GetTracking(self, request: pb.GetTrackingRequest, context: Any) -> pb.GetTrackingResponse:
        status = await self._tracking.status()
        return pb.GetTrackingResponse(url=status.url, due=status.due, problem=status.problem)

    def _compare_canary(self, session: Session, row: AdapterRow, view: pb.Adapter) -> None:
        canary = newest_canary(session, row.id)
        if canary is not None:
            gate = self._specs.of(session.get_one(CampaignRow, row.campaign_id)).spec.gate
            view.canary.evaluation.CopyFrom(compare_canary(session, canary, gate))

    async def _turn(self, name: str, state: str, allowed: set[str]) -> pb.Campaign:
        """Bring a campaign into a state; being in it already is fine."""

        def turn(session: Session) -> pb.Campaign:
            row = session.get_one(CampaignRow, _campaign_id(session, name), with_for_update=True)
            if row.state not in allowed:
                raise NotPossible(f"campaign {row.name} ({row.id[:8]}) is {row.state}")
            if state == CANCELLED and row.state != CANCELLED:
                self._machine.cancel(session, row)
            elif state == RUNNING and row.state == PAUSED:
                self._machine.resume(session, row)
            elif state == PAUSED and row.state == RUNNING:
                self._machine.pause(row, "")
            return views.campaign_view(session, row, self._clock(), self._prices)

        return await self._change(turn)

    def _newest(self, session: Session, campaign_id: str, sent: str) -> pb.DialogueRecord | None:
        """The dialogue that came last, unless it was sent already: a whole dialogue is not read for nothing."""
        query = select(DialogueRow.id).where(DialogueRow.campaign_id == campaign_id)
        newest = session.scalar(query.order_by(DialogueRow.scored_at.desc()).limit(1))
        if newest is None or newest == sent:
            return None
        return views.dialogue_view(session.get_one(DialogueRow, newest), self._prices, with_turns=True)

    async def _change(self, work: Callable[[Session], T]) -> T:
        result = await self._database.run(work)
        self._outbox.wake()
        self._changes.tell()
        return result


def _campaign_id(session: Session, name: str) -> str:
    """By id, the beginning of one, or a name: then the newest of that name."""
    query = select(CampaignRow.id).where(CampaignRow.name == name)
    newest = session.scalar(query.order_by(CampaignRow.created_at.desc()).limit(1))
    return newest or _id(session, CampaignRow.id, name, "campaign")


def _adapter(session: Session, name: str) -> AdapterRow:
    return session.get_one(AdapterRow, _id(session, AdapterRow.id, name, "adapter"))


def _id(session: Session, column: Any, name: str, noun: str) -> str:
    """The one id that is `name`, or begins with it."""
    if name and session.scalar(select(column).where(column == name)) is not None:
        return name
    begins = func.substr(column, 1, len(name)) == name  # LIKE minds the case on PostgreSQL only
    found = list(session.scalars(select(column).where(begins).limit(2)))
    if not name or not found:
        raise NotFound(f'there is no {noun} "{name}": see `duologue {noun} list`')
    if len(found) > 1:
        raise InvalidInput([Problem(noun, 0, f'"{name}" is the beginning of several ids', "Give more of it.")])
    return str(found[0])


def _checked_request_id(request_id: str) -> str:
    if len(request_id) > LONGEST_REQUEST_ID:
        message = f"has {len(request_id)} characters"
        raise InvalidInput([Problem("request_id", 0, message, f"Give {LONGEST_REQUEST_ID} at most, as a UUID has.")])
    return request_id


def _checked_share(share: float) -> float:
    if not 0 <= share < 1:
        message = f"is {share:g}"
        raise InvalidInput([Problem("canary", 0, message, "Give a share above 0 and below 1, as 0.1; 0 is none.")])
    return share


def _page(size: int, token: str) -> tuple[int, int]:
    """Size and start of the page that is asked for."""
    if size < 0:
        raise InvalidInput([Problem("page_size", 0, f"is {size}", "Give a number of items, or 0 for the usual one.")])
    if token and not _TOKEN.fullmatch(token):
        raise InvalidInput([Problem("page_token", 0, f"is {token!r}", "Give the next_page_token of the page before.")])
    return min(size or _PAGE, _LARGEST_PAGE), int(token or 0)


def _next(found: list[Any], start: int, size: int) -> str:
    return str(start + size) if len(found) > size else ""
