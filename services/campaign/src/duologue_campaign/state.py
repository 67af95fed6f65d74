"""The state machine of a campaign: what comes next, given what is there.

Every event ends in `advance`, which looks at the state and does what is due. It never relies on having seen the event
before: called twice, after a crash or a pause, it does the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.bus.codec import encode
from duologue.contracts.topics import CAMPAIGN_CANCELLED, TRAINING_REQUESTED
from duologue.contracts.v1 import events_pb2
from duologue.core.campaign import Campaign
from duologue.core.dialogue import Split
from duologue.store import Outbox
from duologue_campaign import window
from duologue_campaign.gate import evaluate
from duologue_campaign.means import numbers, round_diversity
from duologue_campaign.orders import training_data, training_order, why_no_training
from duologue_campaign.phases import (
    CANCELLED,
    COMPLETED,
    DONE,
    EVALUATING,
    FAILED,
    GENERATING,
    PAUSED,
    RUNNING,
    SEALING,
    SPLIT_OF_PHASE,
    TRAINING,
)
from duologue_campaign.releases import lock_releases, release, released_adapter_id
from duologue_campaign.specs import Specs
from duologue_campaign.tables import AdapterRow, CampaignRow, DatasetRow, DialogueRow, RoundRow

log = structlog.get_logger(__name__)

_ARMS = 2
_WAITS_FOR = {
    GENERATING: "none of the dialogues that are out comes back",
    SEALING: "filtering does not answer with the dataset",
    TRAINING: "the training neither gets on nor ends",
    EVALUATING: "none of the dialogues that are out comes back",
}


class StateMachine:
    """Moves campaigns on. All methods are part of the transaction of the session that they are given."""

    def __init__(self, outbox: Outbox, specs: Specs, base_model: str, clock: Callable[[], float] = time.time) -> None:
        self._outbox = outbox
        self._window = window.Window(outbox, specs)
        self._specs = specs
        self._base_model = base_model
        self._clock = clock

    def begin(self, session: Session, row: CampaignRow) -> None:
        """Start the first round."""
        self._begin_round(session, row, 1)
        self.advance(session, row)

    def advance(self, session: Session, row: CampaignRow) -> bool:
        """Do what is due, until something has to be waited for. True when the campaign moved on."""
        moved = False
        while row.state == RUNNING and self._step(session, row, row.history[-1]):
            log.info("phase", campaign=row.id, round=row.history[-1].number, phase=row.history[-1].phase)
            moved = True
        return moved or row.state != RUNNING

    def pause(self, row: CampaignRow, reason: str) -> None:
        row.state, row.reason = PAUSED, reason
        log.info("campaign paused", campaign=row.id, reason=reason)

    def resume(self, session: Session, row: CampaignRow) -> None:
        """Go on after a pause. What stood still before it is asked for again; the pause itself was no standstill."""
        current = row.history[-1]
        row.state, row.reason = RUNNING, ""
        current.progress_at = self._clock()
        if current.standstills:
            current.reissues = current.standstills = 0
            self._ask_again(session, row, current)
        self.advance(session, row)

    def stand_still(self, session: Session, row: CampaignRow, reissues: int) -> None:
        """Nothing has come for a while: ask again; after `reissues` times go on without it, or wait for a person."""
        current = row.history[-1]
        current.progress_at = self._clock()
        spent = self._spent(row, self._specs.of(row)) if current.phase == GENERATING else ""
        if current.reissues < reissues and not spent:
            current.reissues += 1
            if current.phase in SPLIT_OF_PHASE:
                self._ask_again(session, row, current)
            return
        current.reissues = 0
        current.standstills += 1
        if spent or (current.phase in SPLIT_OF_PHASE and window.may_give_up(current)):
            window.give_up(session, row, current)
            log.error("gave up on dialogues", campaign=row.id, round=current.number, lost=len(current.lost))
            self.advance(session, row)
            return
        self.pause(
            row,
            f"round {current.number} stands still: {_WAITS_FOR[current.phase]}. "
            f"See why with `duologue dlq list`, then go on with `duologue campaign resume {row.id[:8]}`",
        )

    def cancel(self, session: Session, row: CampaignRow) -> None:
        """End it for good, and have nothing more asked of models for it. What it has out does not come back."""
        self.finish(row, CANCELLED, "cancelled")
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        event = events_pb2.CampaignCancelled(campaign_id=row.id, cancelled_at=now)
        self._outbox.add(session, [encode(CAMPAIGN_CANCELLED, event, "campaign")])

    def finish(self, row: CampaignRow, state: str, reason: str) -> None:
        row.state, row.reason, row.finished_at = state, reason, self._clock()
        log.info("campaign over", campaign=row.id, state=state, reason=reason)

    def _ask_again(self, session: Session, row: CampaignRow, current: RoundRow) -> None:
        """Ids are the same, so what was only slow is done once. Datasets are asked for by the driver anyway."""
        log.warning("asked again", campaign=row.id, round=current.number, phase=current.phase)
        if current.phase in SPLIT_OF_PHASE:
            self._window.ask_again(session, row, current)
        elif current.phase == TRAINING:
            self._order_training(session, row, session.get_one(AdapterRow, current.adapter_id))

    def _step(self, session: Session, row: CampaignRow, current: RoundRow) -> bool:
        """One transition; False when nothing can be done now."""
        campaign = self._specs.of(row)
        if current.phase == GENERATING:
            return self._generate(session, row, current, campaign)
        if current.phase == SEALING:
            return self._after_sealing(session, row, current, campaign)
        if current.phase == TRAINING:
            return self._after_training(session, row, current, campaign)
        if current.phase == EVALUATING:
            return self._evaluate(session, row, current, campaign)
        return self._after_round(session, row, current, campaign)

    def _generate(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        spent = self._spent(row, campaign)
        if spent:
            current.wanted = current.issued
        self._window.fill(session, row, current)
        if not window.is_complete(current):
            return False
        if not current.scored:
            self._end_round(current, spent)
            return True
        current.candidates = current.scored
        current.diversity = round_diversity(session, row.id, current.number, campaign.spec.seed)
        current.dataset_id = f"{row.name}-r{current.number}-{row.id[:8]}"
        self._enter(current, SEALING, wanted=0)
        return True

    def _after_sealing(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        if session.get(DatasetRow, current.dataset_id) is None:
            return False  # the driver asks filtering for it
        datasets = training_data(session, row, current, campaign)
        obstacle = why_no_training(current, campaign, datasets) or self._spent(row, campaign)
        if obstacle:
            self._end_round(current, obstacle)
            return True
        adapter = AdapterRow(
            id=current.dataset_id,
            campaign_id=row.id,
            agent=row.name,
            round=current.number,
            state="training",
            dataset_ids=[dataset.id for dataset in datasets],
            created_at=self._clock(),
        )
        session.add(adapter)
        current.adapter_id = adapter.id
        self._order_training(session, row, adapter)
        self._enter(current, TRAINING, wanted=0)
        return True

    def _order_training(self, session: Session, row: CampaignRow, adapter: AdapterRow) -> None:
        order = training_order(session, adapter, self._specs.of(row), self._base_model)
        self._outbox.add(session, [encode(TRAINING_REQUESTED, order, "campaign")])

    def _after_training(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        adapter = session.get_one(AdapterRow, current.adapter_id)
        if adapter.training is None:
            return False
        completed = events_pb2.TrainingCompleted.FromString(adapter.training)
        if completed.error:
            self._end_round(current, f"training failed: {completed.error}")
            self.finish(row, FAILED, current.outcome)
            return False
        spent = self._spent(row, campaign)
        if spent:
            self._end_round(current, f"not evaluated, {spent}")
            return True
        row.current_adapter_id = released_adapter_id(session, row.name)
        self._enter(current, EVALUATING, wanted=campaign.spec.evaluation.dialogues * _ARMS)
        return True

    def _evaluate(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        """A comparison that was begun is not cut short by the budget: half of one would show nothing."""
        self._window.fill(session, row, current)
        if not window.is_complete(current):
            return False
        adapter = session.get_one(AdapterRow, current.adapter_id)
        evaluation = evaluate(
            adapter.id, row.current_adapter_id, self._pairs(session, row, current), campaign.spec.gate
        )
        lock_releases(session, row.name)
        standing = released_adapter_id(session, row.name)
        if standing != row.current_adapter_id:
            evaluation.released = standing == adapter.id
            evaluation.reason = _overtaken(adapter.id, row.current_adapter_id, standing, evaluation.reason)
        adapter.evaluation = evaluation.SerializeToString()
        if evaluation.released:
            self._outbox.add(session, release(session, adapter, "gate", self._clock()))
        else:
            adapter.state = "refused"
        self._end_round(current, evaluation.reason)
        return True

    def _after_round(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        spent = self._spent(row, campaign)
        if spent or current.number >= campaign.spec.rounds:
            self.finish(row, COMPLETED, spent)
            return False
        self._begin_round(session, row, current.number + 1)
        return True

    def _begin_round(self, session: Session, row: CampaignRow, number: int) -> None:
        now = self._clock()
        row.current_adapter_id = released_adapter_id(session, row.name)
        row.history.append(
            RoundRow(
                campaign_id=row.id,
                number=number,
                phase=GENERATING,
                phase_began_at=now,
                progress_at=now,
                wanted=self._specs.of(row).spec.dialogues,
                issued=0,
                scored=0,
                lost=[],
                reissues=0,
                standstills=0,
                candidates=0,
                kept=0,
                dropped=0,
                sums={},
                counts={},
                dropped_by={},
                dataset_id="",
                adapter_id="",
                outcome="",
                note="",
            )
        )

    def _end_round(self, current: RoundRow, outcome: str) -> None:
        current.outcome = outcome
        self._enter(current, DONE, wanted=0)

    def _enter(self, current: RoundRow, phase: str, *, wanted: int) -> None:
        if current.lost:
            current.note = "; ".join(filter(None, [current.note, _without(current)]))
        current.phase = phase
        current.phase_began_at = current.progress_at = self._clock()
        current.wanted, current.issued, current.scored, current.lost = wanted, 0, 0, []
        current.reissues = current.standstills = 0

    def _pairs(
        self, session: Session, row: CampaignRow, current: RoundRow
    ) -> list[tuple[dict[str, float], dict[str, float]]]:
        """Scores of (current, candidate) for every pair that is complete."""
        query = select(DialogueRow.index, DialogueRow.scores).where(
            DialogueRow.campaign_id == row.id,
            DialogueRow.round == current.number,
            DialogueRow.split == Split.EVALUATION,
        )
        scores = {index: numbers(found) for index, found in session.execute(query)}
        evens = sorted(index for index in scores if index % _ARMS == 0 and index + 1 in scores)
        return [(scores[index], scores[index + 1]) for index in evens]

    def _spent(self, row: CampaignRow, campaign: Campaign) -> str:
        """Why the budget allows no more; empty while it does."""
        budget = campaign.spec.budget
        tokens = row.prompt_tokens + row.completion_tokens
        if budget.tokens is not None and tokens >= budget.tokens:
            return f"budget spent: {tokens:,} of {budget.tokens:,} tokens"
        seconds = self._clock() - row.created_at
        if budget.seconds is not None and seconds >= budget.seconds:
            return f"budget spent: {seconds:.0f} of {budget.seconds:.0f} seconds"
        return ""


def _without(current: RoundRow) -> str:
    kind = "evaluation dialogue" if current.phase == EVALUATING else "dialogue"
    return f"goes on without {len(current.lost)} {kind}{'s' * (len(current.lost) > 1)}: see `duologue dlq list`"


def _overtaken(candidate: str, compared: str, standing: str, verdict: str) -> str:
    """Why the gate's verdict is void: another adapter answers now than the one that the pairs were played with."""
    if standing == candidate:
        return f"promoted by hand while it was evaluated; the gate saw: {verdict}"
    now, then = standing or "the base model", compared or "the base model"
    return (
        f"{now} answers now, the pairs compare with {then}: {verdict}. "
        f"Release it with `duologue adapter promote {candidate}`, or run the campaign again"
    )
