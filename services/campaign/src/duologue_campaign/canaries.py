"""Canaries: which dialogues go to an adapter that does not answer yet, and how it does there."""

from __future__ import annotations

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.campaign import Gate
from duologue.core.dialogue import Split
from duologue_campaign.gate import Scores, compare
from duologue_campaign.means import numbers
from duologue_campaign.tables import CampaignRow, CanaryRow, DialogueRow

# Of each side the newest: intervals over more take seconds and are no narrower than anyone needs.
_MOST_DIALOGUES = 2000


def open_canary(session: Session, agent: str) -> CanaryRow | None:
    """The canary of an agent that has not ended."""
    return session.scalar(select(CanaryRow).where(CanaryRow.agent == agent, CanaryRow.ended_at.is_(None)))


def newest_canary(session: Session, adapter_id: str) -> CanaryRow | None:
    """The last canary of an adapter, whether it has ended or not."""
    query = select(CanaryRow).where(CanaryRow.adapter_id == adapter_id)
    return session.scalar(query.order_by(CanaryRow.id.desc()).limit(1))


def goes_to_canary(dialogue_id: str, share: float) -> bool:
    """By the id alone: a dialogue that is asked for again while the canary lasts goes where it went, unless the share
    became smaller."""
    drawn = hashlib.blake2b(dialogue_id.encode(), digest_size=8).digest()
    return int.from_bytes(drawn) / 2**64 < share


def end_canary(canary: CanaryRow, outcome: str, now: float) -> None:
    canary.ended_at, canary.outcome = now, outcome


def compare_canary(session: Session, canary: CanaryRow, gate: Gate) -> pb.Evaluation:
    """How the two adapters of a canary did in the training dialogues that were scored while it lasted."""
    current = _scores(session, canary, canary.current_adapter_id)
    candidate = _scores(session, canary, canary.adapter_id)
    return compare(canary.adapter_id, canary.current_adapter_id, current, candidate, gate)


def _scores(session: Session, canary: CanaryRow, adapter_id: str) -> list[Scores]:
    query = (
        select(DialogueRow.scores)
        .join(CampaignRow, CampaignRow.id == DialogueRow.campaign_id)
        .where(
            CampaignRow.name == canary.agent,
            DialogueRow.split == Split.TRAINING,
            DialogueRow.adapter_id == adapter_id,
            DialogueRow.scored_at >= canary.began_at,
        )
    )
    if canary.ended_at is not None:
        query = query.where(DialogueRow.scored_at <= canary.ended_at)
    return [
        numbers(scores)
        for scores in session.scalars(query.order_by(DialogueRow.scored_at.desc()).limit(_MOST_DIALOGUES))
    ]
