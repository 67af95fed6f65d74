"""Figures over a round's dialogues."""

from __future__ import annotations

import random

from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.campaign import METRICS
from duologue.core.dialogue import Split
from duologue.core.text import diversity
from duologue_campaign.tables import DialogueRow, RoundRow

# Ulmer et al. 2024, section 3.3: diversity over a sample of 25 dialogues of one agent role.
_SAMPLE = 25


def add_to_sums(current: RoundRow, scores: dict[str, object]) -> None:
    """Count a dialogue's scores into the round's means. What was not measured does not count."""
    sums, counts = dict(current.sums), dict(current.counts)
    for metric in METRICS:
        value = scores.get(metric)
        if isinstance(value, (int, float)):
            sums[metric] = sums.get(metric, 0.0) + float(value)
            counts[metric] = counts.get(metric, 0) + 1
    current.sums, current.counts = sums, counts


def numbers(scores: dict[str, object]) -> dict[str, float]:
    """The scores that are figures; yes counts 1, no 0."""
    return {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))}


def means(current: RoundRow) -> dict[str, float]:
    return {metric: total / current.counts[metric] for metric, total in current.sums.items()}


def round_diversity(session: Session, campaign_id: str, round_: int, seed: int) -> float:
    """Mean over the agent roles (workflows) of the diversity of a sample of their training dialogues, in [0, 1]."""
    query = select(DialogueRow.id, DialogueRow.scores).where(
        DialogueRow.campaign_id == campaign_id, DialogueRow.round == round_, DialogueRow.split == Split.TRAINING
    )
    by_workflow: dict[str, list[str]] = {}
    for row in session.execute(query):
        by_workflow.setdefault(str(row.scores["workflow_id"]), []).append(row.id)
    rng = random.Random(seed)
    samples = [rng.sample(sorted(ids), min(_SAMPLE, len(ids))) for _, ids in sorted(by_workflow.items())]
    figures = [diversity([_text(session, name) for name in ids]) for ids in samples if len(ids) > 1]
    return sum(figures) / len(figures) if figures else 1.0


def _text(session: Session, dialogue_id: str) -> str:
    payload = session.get_one(DialogueRow, dialogue_id).payload
    turns = events_pb2.DialogueScored.FromString(payload).dialogue.turns
    return " ".join(turn.text for turn in turns if turn.role != dialogue_pb2.ROLE_TOOL)
