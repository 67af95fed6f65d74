"""What the dialogues of a campaign used, added up by what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from duologue.contracts.convert import usage_from_proto
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.usage import Account, Usage, total
from duologue.store.insert import add_up
from duologue_campaign.tables import LONGEST_MODEL, DialogueRow, ExpenseRow

# What moved to another decision may leave less than this behind: floats do not add up to nothing.
_LEAST_SECONDS = 1e-6
_FIGURES = tuple(field.name for field in fields(Usage))


def usage_of(scored: events_pb2.DialogueScored) -> list[dialogue_pb2.ModelUsage]:
    """What playing and judging a dialogue took; none in a message of a version that did not tell."""
    judge = [scored.judge_usage] if scored.HasField("judge_usage") else []
    return [*scored.dialogue.usage, *judge]


def all_of(scored: events_pb2.DialogueScored) -> Usage:
    """The sum of playing and judging. Turns do not bear all of it, but older messages tell of nothing else."""
    usage, judge = scored.dialogue.usage, scored.judge
    if usage:
        played = total(each for _, each in map(usage_from_proto, usage))
    else:
        turns = scored.dialogue.turns
        played = total(Usage.of(turn.prompt_tokens, turn.completion_tokens, seconds=turn.seconds) for turn in turns)
    return played + Usage.of(judge.prompt_tokens, judge.completion_tokens, seconds=judge.seconds)


def book(session: Session, dialogue: DialogueRow, scored: events_pb2.DialogueScored) -> None:
    """Add what a dialogue used to the books of its campaign, once."""
    usage = usage_of(scored)
    if usage:
        add_up(session, ExpenseRow, [_entry(dialogue, dialogue.decision, each) for each in usage], _FIGURES)
        dialogue.is_booked = True


def rebook(session: Session, dialogue: DialogueRow, decision: str) -> None:
    """Move what a booked dialogue used from its decision to another one."""
    if not dialogue.is_booked:
        return
    usage = usage_of(events_pb2.DialogueScored.FromString(dialogue.payload))
    gone = [_negated(_entry(dialogue, dialogue.decision, each)) for each in usage]
    add_up(session, ExpenseRow, [*gone, *(_entry(dialogue, decision, each) for each in usage)], _FIGURES)


def expenses_of(session: Session, campaign_id: str, round_: int | None = None) -> Iterator[tuple[str, Account, Usage]]:
    """Decision, account and usage, of all rounds or of one; an account comes once for each decision that has any."""
    key = (ExpenseRow.decision, ExpenseRow.part, ExpenseRow.model, ExpenseRow.wasted)
    sums = (func.sum(getattr(ExpenseRow, name)).label(name) for name in _FIGURES)
    query = select(*key, *sums).where(ExpenseRow.campaign_id == campaign_id)
    if round_ is not None:
        query = query.where(ExpenseRow.round == round_)
    for row in session.execute(query.group_by(*key).order_by(*key)):
        # PostgreSQL's sum of big integers is a decimal.
        tokens = {name: int(getattr(row, name)) for name in _FIGURES if name != "seconds"}
        usage = Usage(**tokens, seconds=row.seconds)
        if usage.prompt_tokens or usage.completion_tokens or usage.seconds > _LEAST_SECONDS:
            yield row.decision, Account(row.part, row.model, row.wasted), usage


def _entry(dialogue: DialogueRow, decision: str, message: dialogue_pb2.ModelUsage) -> dict[str, Any]:
    account, usage = usage_from_proto(message)
    return {
        "campaign_id": dialogue.campaign_id,
        "round": dialogue.round,
        "decision": decision,
        "part": account.part,
        "model": account.model[:LONGEST_MODEL],
        "wasted": account.wasted,
        **asdict(usage),
    }


def _negated(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {name: -entry[name] for name in _FIGURES}
