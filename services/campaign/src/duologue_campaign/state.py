"""The state machine of a campaign: what comes next, given what is there.

Every event ends in `advance`, which looks at the state and does what is due. It never relies on having seen the event
before: called twice, after a crash or a pause, it does the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.topics import DIALOGUE_REQUESTED, TRAINING_REQUESTED
from duologue.contracts.v1 import events_pb2
from duologue.core.campaign import Campaign
from duologue.core.dialogue import Split
from duologue.store import Outbox
from duologue_campaign.gate import evaluate
from duologue_campaign.means import round_diversity
from duologue_campaign.releases import adapter_ref, release, released_adapter_id
from duologue_campaign.requests import evaluation_request, training_request
from duologue_campaign.specs import Specs
from duologue_campaign.tables import AdapterRow, CampaignRow, DatasetRow, DialogueRow, RoundRow

log = structlog.get_logger(__name__)

RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED = "running", "paused", "completed", "failed", "cancelled"
GENERATING, SEALING, TRAINING, EVALUATING, DONE = "generating", "sealing", "training", "evaluating", "done"

# Which dialogues a phase asks for; the others ask for none.
SPLIT_OF_PHASE = {GENERATING: Split.TRAINING, EVALUATING: Split.EVALUATION}
_ARMS = 2


class StateMachine:
    """Moves campaigns on. All methods are part of the transaction of the session that they are given."""

    def __init__(self, outbox: Outbox, specs: Specs, base_model: str, clock: Callable[[], float] = time.time) -> None:
        self._outbox = outbox
        self._specs = specs
        self._base_model = base_model
        self._clock = clock

    def begin(self, session: Session, row: CampaignRow) -> None:
        """Start the first round."""
        self._begin_round(session, row, 1)
        self.advance(session, row)

    def advance(self, session: Session, row: CampaignRow) -> None:
        """Do what is due, until something has to be waited for."""
        while row.state == RUNNING and self._step(session, row, row.history[-1]):
            log.info("phase", campaign=row.id, round=row.history[-1].number, phase=row.history[-1].phase)

    def resume(self, session: Session, row: CampaignRow) -> None:
        """Go on after a pause, which was no standstill."""
        row.state = RUNNING
        row.history[-1].progress_at = self._clock()
        self.advance(session, row)

    def missing(self, session: Session, row: CampaignRow) -> Iterable[int]:
        """Indices of dialogues of the present phase that were asked for and are not back."""
        current = row.history[-1]
        split = SPLIT_OF_PHASE[current.phase]
        query = select(DialogueRow.index).where(
            DialogueRow.campaign_id == row.id, DialogueRow.round == current.number, DialogueRow.split == split
        )
        return sorted(set(range(current.issued)) - set(session.scalars(query)))

    def reissue(self, session: Session, row: CampaignRow, limit: int) -> None:
        """Ask again for what is missing; after `limit` times go on without it, or fail when nothing is there."""
        current = row.history[-1]
        current.progress_at = self._clock()
        if current.reissues < limit:
            current.reissues += 1
            missing = list(self.missing(session, row))
            log.warning("reissued", campaign=row.id, round=current.number, dialogues=len(missing))
            self._outbox.add(session, [self._request(session, row, current, index) for index in missing])
            return
        lost = current.wanted - current.scored
        log.error("gave up on dialogues", campaign=row.id, round=current.number, dialogues=lost)
        if current.scored == 0:
            self.finish(row, FAILED, f"none of the {current.wanted} dialogues of round {current.number} came back")
            return
        row.reason = f"round {current.number} goes on without {lost} dialogues: see `duologue dlq list`"
        current.wanted = current.issued = current.scored
        self.advance(session, row)

    def finish(self, row: CampaignRow, state: str, reason: str) -> None:
        row.state, row.reason, row.finished_at = state, reason, self._clock()
        log.info("campaign over", campaign=row.id, state=state, reason=reason)

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
        if self._spent(row, campaign):
            current.wanted = current.issued
        self._issue(session, row, current, campaign)
        if current.scored < current.wanted:
            return False
        current.candidates = current.scored
        current.diversity = round_diversity(session, row.id, current.number, campaign.spec.seed)
        current.dataset_id = f"{row.name}-r{current.number}-{row.id[:8]}"
        self._enter(current, SEALING, wanted=0)
        return True

    def _after_sealing(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        if session.get(DatasetRow, current.dataset_id) is None:
            return False  # the driver asks filtering for it
        datasets = self._training_data(session, row, current, campaign)
        kept = sum(dataset.kept for dataset in datasets)
        if kept < campaign.spec.training.min_kept:
            current.outcome = f"{kept} dialogues kept, training.min_kept asks for {campaign.spec.training.min_kept}"
            self._enter(current, DONE, wanted=0)
            return True
        current.adapter_id = current.dataset_id
        session.add(
            AdapterRow(
                id=current.adapter_id,
                campaign_id=row.id,
                agent=row.name,
                round=current.number,
                state="training",
                dataset_ids=[dataset.id for dataset in datasets],
                created_at=self._clock(),
            )
        )
        self._outbox.add(session, [self._training_request(row, current, campaign, datasets)])
        self._enter(current, TRAINING, wanted=0)
        return True

    def _after_training(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        adapter = session.get_one(AdapterRow, current.adapter_id)
        if adapter.training is None:
            return False
        completed = events_pb2.TrainingCompleted.FromString(adapter.training)
        if completed.error:
            current.outcome = f"training failed: {completed.error}"
            self._enter(current, DONE, wanted=0)
            self.finish(row, FAILED, current.outcome)
            return False
        row.current_adapter_id = released_adapter_id(session, row.name)
        self._enter(current, EVALUATING, wanted=campaign.spec.evaluation.dialogues * _ARMS)
        return True

    def _evaluate(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> bool:
        self._issue(session, row, current, campaign)
        if current.scored < current.wanted:
            return False
        adapter = session.get_one(AdapterRow, current.adapter_id)
        pairs = self._pairs(session, row, current)
        evaluation = evaluate(adapter.id, row.current_adapter_id, pairs, campaign.spec.gate)
        adapter.evaluation = evaluation.SerializeToString()
        current.outcome = evaluation.reason
        if evaluation.released:
            self._outbox.add(session, [release(session, adapter, "gate", self._clock())])
        else:
            adapter.state = "refused"
        self._enter(current, DONE, wanted=0)
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
                reissues=0,
                candidates=0,
                kept=0,
                dropped=0,
                sums={},
                counts={},
                dropped_by={},
                dataset_id="",
                adapter_id="",
                outcome="",
            )
        )

    def _enter(self, current: RoundRow, phase: str, *, wanted: int) -> None:
        current.phase = phase
        current.phase_began_at = current.progress_at = self._clock()
        current.wanted, current.issued, current.scored, current.reissues = wanted, 0, 0, 0

    def _issue(self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> None:
        """Ask for dialogues, so many that at most `concurrency` are out at once: pausing stops within that."""
        end = min(current.wanted, current.scored + campaign.spec.concurrency)
        records = [self._request(session, row, current, index) for index in range(current.issued, end)]
        self._outbox.add(session, records)
        current.issued = max(current.issued, end)

    def _request(self, session: Session, row: CampaignRow, current: RoundRow, index: int) -> Record:
        campaign = self._specs.of(row)
        adapter = adapter_ref(session, row.current_adapter_id)
        if SPLIT_OF_PHASE[current.phase] is Split.TRAINING:
            request = training_request(campaign, row.id, current.number, index, adapter)
        else:
            arms = (adapter, adapter_ref(session, current.adapter_id))
            request = evaluation_request(campaign, row.id, current.number, index, arms)
        return encode(DIALOGUE_REQUESTED, request, "campaign")

    def _training_data(
        self, session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign
    ) -> list[DatasetRow]:
        query = select(DatasetRow).where(DatasetRow.campaign_id == row.id, DatasetRow.kept > 0)
        if not campaign.spec.training.accumulate:
            query = query.where(DatasetRow.round == current.number)
        return list(session.scalars(query.order_by(DatasetRow.round)))

    def _training_request(
        self, row: CampaignRow, current: RoundRow, campaign: Campaign, datasets: list[DatasetRow]
    ) -> Record:
        training = campaign.spec.training
        request = events_pb2.TrainingRequested(
            training_id=current.adapter_id,
            campaign_id=row.id,
            round=current.number,
            adapter_id=current.adapter_id,
            datasets=[events_pb2.DatasetSealed.FromString(dataset.sealed) for dataset in datasets],
            base_model=training.base_model or campaign.spec.models.agent or self._base_model,
            rank=training.rank,
            alpha=training.alpha,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            batch_size=training.batch_size,
            epochs=training.epochs,
            warmup_steps=training.warmup_steps,
            max_tokens=training.max_tokens,
            seed=campaign.spec.seed,
        )
        return encode(TRAINING_REQUESTED, request, "campaign")

    def _pairs(
        self, session: Session, row: CampaignRow, current: RoundRow
    ) -> list[tuple[dict[str, float], dict[str, float]]]:
        """Scores of (current, candidate) for every pair that is complete."""
        query = select(DialogueRow.index, DialogueRow.scores).where(
            DialogueRow.campaign_id == row.id,
            DialogueRow.round == current.number,
            DialogueRow.split == Split.EVALUATION,
        )
        scores = {index: _numbers(found) for index, found in session.execute(query)}
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


def _numbers(scores: dict[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))}
