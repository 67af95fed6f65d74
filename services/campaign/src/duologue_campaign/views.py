"""Rows as messages."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from duologue.contracts.convert import split_to_proto, usage_from_proto, usage_to_proto
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import Split
from duologue_campaign.canaries import newest_canary
from duologue_campaign.expenses import expenses_of, usage_of
from duologue_campaign.means import means
from duologue_campaign.prices import Prices
from duologue_campaign.releases import adapter_ref
from duologue_campaign.tables import AdapterRow, CampaignRow, CanaryRow, DatasetRow, DialogueRow, RoundRow


def campaign_view(session: Session, row: CampaignRow, now: float, prices: Prices) -> pb.Campaign:
    """All but the spec's text, which is large and does not change."""
    expenses = list(expenses_of(session, row.id))
    # Of dialogues of a version that booked nothing, what they cost is not known.
    is_booked = bool(expenses) or not row.prompt_tokens
    cost = prices.cost((account, usage) for _, account, usage in expenses) if is_booked else None
    return pb.Campaign(
        id=row.id,
        name=row.name,
        state=pb.CampaignState.Value(f"CAMPAIGN_STATE_{row.state.upper()}"),
        reason=_reason(row),
        spec_version=row.spec_version,
        rounds=len(row.history),
        history=[_round_view(session, current) for current in row.history],
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        model_seconds=row.model_seconds,
        created_at=time_view(row.created_at),
        finished_at=time_view(row.finished_at),
        remaining_seconds=_remaining(row.history[-1], now),
        expenses=[
            pb.Expense(decision=decision, usage=usage_to_proto(account, usage), cost=prices.cost([(account, usage)]))
            for decision, account, usage in expenses
        ],
        cost=cost,
        cost_per_kept=prices.cost_of_each(cost, sum(current.kept for current in row.history)),
    )


def whole_campaign_view(session: Session, row: CampaignRow, now: float, prices: Prices) -> pb.Campaign:
    view = campaign_view(session, row, now, prices)
    view.spec_yaml = row.spec["text"]
    return view


def dialogue_view(row: DialogueRow, prices: Prices, *, with_turns: bool) -> pb.DialogueRecord:
    scored = events_pb2.DialogueScored.FromString(row.payload)
    if not with_turns:
        scored.dialogue.ClearField("turns")
    usage = usage_of(scored)
    return pb.DialogueRecord(
        dialogue=scored.dialogue,
        scores=scored.scores,
        decision=row.decision,
        reason=row.reason,
        cost=prices.cost(map(usage_from_proto, usage)) if usage else None,
        judge_usage=scored.judge_usage if scored.HasField("judge_usage") else None,
    )


def workflow_ref(row: DialogueRow) -> dialogue_pb2.WorkflowRef:
    return events_pb2.DialogueScored.FromString(row.payload).workflow


def dataset_view(row: DatasetRow) -> pb.Dataset:
    return pb.Dataset(sealed=events_pb2.DatasetSealed.FromString(row.sealed), created_at=time_view(row.created_at))


def adapter_view(session: Session, row: AdapterRow) -> pb.Adapter:
    view = pb.Adapter(
        ref=adapter_ref(session, row.id) if row.training else dialogue_pb2.AdapterRef(id=row.id),
        campaign_id=row.campaign_id,
        agent=row.agent,
        round=row.round,
        state=row.state,
        dataset_ids=row.dataset_ids,
        created_at=time_view(row.created_at),
    )
    view.ref.id = row.id
    if row.training is not None:
        view.training.CopyFrom(events_pb2.TrainingCompleted.FromString(row.training))
    if row.evaluation is not None:
        view.evaluation.CopyFrom(pb.Evaluation.FromString(row.evaluation))
    canary = newest_canary(session, row.id)
    if canary is not None:
        view.canary.CopyFrom(_canary_view(canary))
    return view


def time_view(seconds: float | None) -> str:
    """RFC 3339 in UTC; empty for none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def split_name(split: dialogue_pb2.Split.ValueType) -> str | None:
    """The split as the tables have it; None for unspecified."""
    return next((name for name in Split if split_to_proto(name) == split), None)


def _canary_view(row: CanaryRow) -> pb.Canary:
    return pb.Canary(
        share=row.share,
        current_adapter_id=row.current_adapter_id,
        began_at=time_view(row.began_at),
        ended_at=time_view(row.ended_at),
        outcome=row.outcome,
    )


def _round_view(session: Session, row: RoundRow) -> pb.Round:
    view = pb.Round(
        number=row.number,
        phase=pb.RoundPhase.Value(f"ROUND_PHASE_{row.phase.upper()}"),
        wanted=row.wanted,
        scored=row.scored,
        candidates=row.candidates,
        kept=row.kept,
        dropped=row.dropped,
        means=means(row),
        diversity=row.diversity or 0.0,
        dataset_id=row.dataset_id,
        adapter_id=row.adapter_id,
        dropped_by=row.dropped_by,
        outcome=row.outcome,
        lost=len(row.lost),
    )
    adapter = session.get(AdapterRow, row.adapter_id) if row.adapter_id else None
    if adapter is not None and adapter.evaluation is not None:
        view.evaluation.CopyFrom(pb.Evaluation.FromString(adapter.evaluation))
    return view


def _reason(row: CampaignRow) -> str:
    notes = [f"round {current.number} {current.note}" for current in row.history if current.note]
    return "; ".join(filter(None, [row.reason, *notes]))


def _remaining(current: RoundRow, now: float) -> float:
    """Seconds to the end of the phase at its mean speed so far; 0 when nothing is known."""
    if not current.scored or not current.wanted:
        return 0.0
    outstanding = current.wanted - current.scored - len(current.lost)
    return (now - current.phase_began_at) / current.scored * outstanding
