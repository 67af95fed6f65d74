"""The other services as the control plane meets them: what it asks for happens, and it hears of it in some order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2, dialogue_pb2, events_pb2
from duologue_campaign.tables import CampaignRow, DatasetRow, DialogueRow
from tests.support.control_plane import ControlPlane
from tests.support.desk import played

Measure = Callable[[events_pb2.DialogueRequested], dict[str, Any]]
Event = (
    events_pb2.DialogueScored | events_pb2.DialogueFiltered | events_pb2.DatasetSealed | events_pb2.TrainingCompleted
)


def candidate_is_better(request: events_pb2.DialogueRequested) -> dict[str, Any]:
    """Scores that depend on the request alone, in eighths so that their sums do not depend on the order."""
    base = (request.index // 2 * 3 % 4) / 8
    better = request.split == dialogue_pb2.SPLIT_EVALUATION and request.index % 2
    return {"subgoals_relative": base + (0.5 if better else 0.0), "words": request.index}


@dataclass
class World:
    """What has happened and was not told yet (`pending`), and what was."""

    plane: ControlPlane
    campaign_id: str
    measure: Measure = candidate_is_better
    keep: Callable[[int], bool] = lambda index: index % 2 == 0
    training_error: str = ""
    pending: list[Event] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    _answered: set[str] = field(default_factory=set)

    async def look(self) -> None:
        """Do what the control plane has asked for since the last look."""
        for request in await self.plane.asked(events_pb2.DialogueRequested, self.campaign_id):
            if self._is_new(request.dialogue_id):
                self.pending.append(played(request, self.measure(request)))
        for order in await self.plane.asked(events_pb2.TrainingRequested, self.campaign_id):
            if self._is_new(f"training {order.training_id}"):
                self.pending.append(self._trained(order))
        for event in await self.plane.database.run(self._sealed):
            self.pending.append(event)

    async def tell(self, event: Event) -> None:
        handle: Any = {
            events_pb2.DialogueScored: self.plane.events.scored,
            events_pb2.DialogueFiltered: self.plane.events.filtered,
            events_pb2.DatasetSealed: self.plane.events.sealed,
            events_pb2.TrainingCompleted: self.plane.events.trained,
        }[type(event)]
        await handle(event)
        self.told.append(event)

    async def run(self, until: Callable[[campaign_pb2.Campaign], bool] = lambda _: False) -> campaign_pb2.Campaign:
        """Tell everything in order until `until` holds or nothing happens any more."""
        while True:
            campaign = await self.plane.campaign(self.campaign_id)
            await self.look()
            if until(campaign) or not self.pending:
                return campaign
            await self.tell(self.pending.pop(0))

    def _is_new(self, name: str) -> bool:
        if name in self._answered:
            return False
        self._answered.add(name)
        return True

    def _trained(self, order: events_pb2.TrainingRequested) -> events_pb2.TrainingCompleted:
        completed = events_pb2.TrainingCompleted(
            training_id=order.training_id, campaign_id=order.campaign_id, round=order.round, error=self.training_error
        )
        if not self.training_error:
            completed.adapter.CopyFrom(
                dialogue_pb2.AdapterRef(
                    id=order.adapter_id,
                    served_model=f"merged/{order.adapter_id}",
                    fingerprint=dialogue_pb2.Artifact(uri=f"adapters/{order.adapter_id}/fingerprint.json", sha256="f"),
                )
            )
            completed.artifact.CopyFrom(dialogue_pb2.Artifact(uri=f"adapters/{order.adapter_id}", sha256="a"))
            completed.examples = 10
        return completed

    def _sealed(self, session: Session) -> list[Event]:
        """What the driver would have ordered of filtering, and its answers."""
        row = session.get_one(CampaignRow, self.campaign_id)
        current = row.history[-1]
        if row.state != "running" or current.phase != "sealing" or session.get(DatasetRow, current.dataset_id):
            return []
        if not self._is_new(f"dataset {current.dataset_id}"):
            return []
        found = [
            dialogue
            for dialogue in session.query(DialogueRow).order_by(DialogueRow.index)
            if (dialogue.campaign_id, dialogue.round, dialogue.split) == (row.id, current.number, "training")
        ]
        events: list[Event] = [
            events_pb2.DialogueFiltered(
                dialogue_id=dialogue.id,
                campaign_id=row.id,
                round=current.number,
                kept=self.keep(dialogue.index),
                reason="" if self.keep(dialogue.index) else "odd",
                dropped_by="" if self.keep(dialogue.index) else "at_most",
            )
            for dialogue in found
        ]
        sealed = events_pb2.DatasetSealed(
            dataset_id=current.dataset_id,
            campaign_id=row.id,
            round=current.number,
            candidates=len(found),
            kept=sum(self.keep(dialogue.index) for dialogue in found),
            data=dialogue_pb2.Artifact(uri=f"datasets/{current.dataset_id}/data.parquet", sha256="d"),
            manifest=dialogue_pb2.Artifact(uri=f"datasets/{current.dataset_id}/manifest.json", sha256="m"),
        )
        return [*events, sealed]


def without_times(message: Message) -> Message:
    """A copy of a campaign that two runs of it have in common."""
    copy = campaign_pb2.Campaign()
    copy.CopyFrom(message)
    for name in ("id", "created_at", "finished_at", "remaining_seconds"):
        copy.ClearField(name)
    for round_ in copy.history:
        round_.dataset_id = round_.dataset_id.rpartition("-")[0]
        round_.adapter_id = round_.adapter_id.rpartition("-")[0]
        round_.evaluation.adapter_id = round_.evaluation.adapter_id.rpartition("-")[0]
        round_.evaluation.current_adapter_id = round_.evaluation.current_adapter_id.rpartition("-")[0]
    return copy
