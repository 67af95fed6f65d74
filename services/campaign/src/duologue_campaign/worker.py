"""What the control plane does with each fact it hears of. A fact that is told twice changes nothing the second time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from duologue.bus import NotThereYet, Poison, Record
from duologue.contracts.convert import check_dialogue, scores_from_proto, split_from_proto
from duologue.contracts.v1 import dialogue_pb2
from duologue.contracts.v1 import events_pb2 as pb
from duologue.core.dialogue import Split, dialogue_id
from duologue.store import Database, Outbox
from duologue_campaign.changes import Changes
from duologue_campaign.expenses import all_of, book, rebook, usage_of
from duologue_campaign.means import add_to_sums
from duologue_campaign.phases import GENERATING, SPLIT_OF_PHASE
from duologue_campaign.spending import Spending
from duologue_campaign.state import StateMachine
from duologue_campaign.tables import AdapterRow, CampaignRow, DatasetRow, DialogueRow, RoundRow
from duologue_campaign.window import count_in


class CampaignEvents:
    """Handlers of the topics that the control plane reads. Each is one SQL transaction."""

    def __init__(
        self,
        database: Database,
        machine: StateMachine,
        outbox: Outbox,
        changes: Changes,
        spending: Spending,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._machine = machine
        self._outbox = outbox
        self._changes = changes
        self._spending = spending
        self._clock = clock

    async def scored(self, event: pb.DialogueScored) -> Sequence[Record]:
        check_dialogue(event.dialogue)
        split = split_from_proto(event.dialogue.split)
        scores = scores_from_proto(event.scores).as_dict()
        scores["workflow_id"] = event.workflow.id
        is_new = False

        def record(session: Session, campaign: CampaignRow) -> None:
            nonlocal is_new
            dialogue = event.dialogue
            _check_asked_for(campaign, dialogue, split)
            if session.get(DialogueRow, event.dialogue_id) is not None:
                return
            is_new = True
            row = DialogueRow(
                id=event.dialogue_id,
                campaign_id=campaign.id,
                round=dialogue.round,
                split=split,
                index=dialogue.index,
                adapter_id=dialogue.provenance.adapter_id,
                scores=scores,
                decision="evaluation" if split is Split.EVALUATION else "pending",
                reason="",
                payload=event.SerializeToString(),
                scored_at=self._clock(),
            )
            book(session, row, event)
            session.add(row)
            used = all_of(event)
            campaign.prompt_tokens += used.prompt_tokens
            campaign.completion_tokens += used.completion_tokens
            campaign.model_seconds += used.seconds
            current = campaign.history[-1]
            if current.number == dialogue.round and SPLIT_OF_PHASE.get(current.phase) is split:
                count_in(current, dialogue.index, self._clock())
                if current.phase == GENERATING:
                    add_to_sums(current, scores)

        caused = await self._change(event.dialogue.campaign_id, record)
        if is_new:
            self._spending.count(usage_of(event))
        return caused

    async def filtered(self, event: pb.DialogueFiltered) -> Sequence[Record]:
        def record(session: Session, campaign: CampaignRow) -> None:
            current = _round(campaign, event.round)
            dialogue = session.get(DialogueRow, event.dialogue_id)
            if dialogue is None:
                raise NotThereYet(f"dialogue {event.dialogue_id} is decided on, but has not come here yet")
            if (dialogue.campaign_id, dialogue.round) != (campaign.id, event.round):
                place = f"round {dialogue.round} of campaign {dialogue.campaign_id}"
                raise Poison(f"dialogue {event.dialogue_id} is of {place}, not of round {event.round} of {campaign.id}")
            if dialogue.decision != "pending":
                return
            decision = "kept" if event.kept else "dropped"
            rebook(session, dialogue, decision)
            dialogue.decision = decision
            dialogue.reason = event.reason
            current.kept += event.kept
            current.dropped += not event.kept
            if not event.kept:
                counts = current.dropped_by
                current.dropped_by = {**counts, event.dropped_by: counts.get(event.dropped_by, 0) + 1}

        return await self._change(event.campaign_id, record)

    async def sealed(self, event: pb.DatasetSealed) -> Sequence[Record]:
        def record(session: Session, campaign: CampaignRow) -> None:
            current = _round(campaign, event.round)
            if event.dataset_id != current.dataset_id:
                raise Poison(f"dataset {event.dataset_id} was not asked for in round {event.round} of {campaign.id}")
            if event.kept > event.candidates:
                raise Poison(f"kept is {event.kept}, of {event.candidates} candidates")
            if session.get(DatasetRow, event.dataset_id) is None:
                current.candidates = event.candidates  # with those that came while it was asked for
                session.add(
                    DatasetRow(
                        id=event.dataset_id,
                        campaign_id=campaign.id,
                        round=event.round,
                        kept=event.kept,
                        sealed=event.SerializeToString(),
                        created_at=self._clock(),
                    )
                )
                session.flush()

        return await self._change(event.campaign_id, record)

    async def trained(self, event: pb.TrainingCompleted) -> Sequence[Record]:
        def record(session: Session, campaign: CampaignRow) -> None:
            adapter = session.get(AdapterRow, event.training_id)
            if adapter is None or (adapter.campaign_id, adapter.round) != (campaign.id, event.round):
                raise Poison(f"training {event.training_id} was not asked for in round {event.round} of {campaign.id}")
            if not event.error:
                _check_adapter(adapter, event)
            if adapter.training is None:
                adapter.training = event.SerializeToString()
                adapter.state = "failed" if event.error else "candidate"

        return await self._change(event.campaign_id, record)

    async def _change(self, campaign_id: str, record: Callable[[Session, CampaignRow], Any]) -> Sequence[Record]:
        def work(session: Session) -> None:
            campaign = session.get(CampaignRow, campaign_id, with_for_update=True)
            if campaign is None:
                raise Poison(f"campaign {campaign_id} is not known here")
            record(session, campaign)
            self._machine.advance(session, campaign)

        await self._database.run(work)
        self._outbox.wake()
        self._changes.tell()
        return []


def _round(campaign: CampaignRow, number: int) -> RoundRow:
    if not 1 <= number <= len(campaign.history):
        raise Poison(f"round {number} of campaign {campaign.id}, which has {len(campaign.history)}")
    return campaign.history[number - 1]


def _check_asked_for(campaign: CampaignRow, dialogue: dialogue_pb2.Dialogue, split: Split) -> None:
    """A dialogue that was never asked for would take the place of one that was."""
    current = _round(campaign, dialogue.round)
    if dialogue.id != dialogue_id(campaign.id, dialogue.round, split, dialogue.index):
        place = f"{split} dialogue {dialogue.index} of round {dialogue.round} of campaign {campaign.id}"
        raise Poison(f"dialogue.id is {dialogue.id}, which is not that of {place}")
    if SPLIT_OF_PHASE.get(current.phase) is split and dialogue.index >= current.issued:
        raise Poison(f"dialogue.index is {dialogue.index}, round {dialogue.round} asked for {current.issued} so far")


def _check_adapter(adapter: AdapterRow, event: pb.TrainingCompleted) -> None:
    """What is told without these would be taken for the base model."""
    trained = event.adapter
    if trained.id != adapter.id:
        raise Poison(f"adapter.id is {trained.id!r}, training {adapter.id} was to make another")
    for field, value in (("served_model", trained.served_model), ("fingerprint.uri", trained.fingerprint.uri)):
        if not value:
            raise Poison(f"training {adapter.id} ended well, and adapter.{field} is empty")
