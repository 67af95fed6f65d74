"""Where campaigns stand, for Prometheus: read from the database, so that it is right after a restart too.

Only the copy that leads tells of it, so nothing is told twice. Labels are bounded: agents are those of the newest
campaigns, an agent has one adapter that answers and one canary, everything else is a word of ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog
from prometheus_client.core import REGISTRY, CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.campaign import Budget
from duologue.store import Database, DatabaseUnavailable, Term
from duologue_campaign.canaries import open_canary
from duologue_campaign.expenses import expenses_of
from duologue_campaign.means import means
from duologue_campaign.phases import (
    CANCELLED,
    COMPLETED,
    EVALUATING,
    FAILED,
    GENERATING,
    PAUSED,
    RUNNING,
    SEALING,
    TRAINING,
)
from duologue_campaign.prices import Prices
from duologue_campaign.releases import standing_release
from duologue_campaign.specs import Specs
from duologue_campaign.tables import AdapterRow, CampaignRow, ReleaseRow, RoundRow

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 10.0
# Agents that are told of: those of the campaigns that were begun last.
_MOST_AGENTS = 50
_STATES = (RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED)
_PHASES = (GENERATING, SEALING, TRAINING, EVALUATING)

FAMILIES: dict[str, tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], str, tuple[str, ...]]] = {
    "duologue_campaigns": (GaugeMetricFamily, "Campaigns, by their state.", ("state",)),
    "duologue_campaigns_running": (GaugeMetricFamily, "Running campaigns, by the phase of their round.", ("phase",)),
    "duologue_campaigns_paused_by_service": (
        GaugeMetricFamily,
        "Campaigns that were paused for a reason and not by a person, by agent.",
        ("agent",),
    ),
    "duologue_campaign_progress_timestamp_seconds": (
        GaugeMetricFamily,
        "When the running phase last got on, of an agent's campaigns the one that waits longest.",
        ("agent", "phase"),
    ),
    "duologue_campaign_reissues": (
        GaugeMetricFamily,
        "Times that what is out was asked for again since anything came back, at most over an agent's campaigns.",
        ("agent", "phase"),
    ),
    "duologue_campaign_budget_spent_ratio": (
        GaugeMetricFamily,
        "Share of the budget that is spent, of tokens or time the larger; of running campaigns that have one.",
        ("agent",),
    ),
    "duologue_campaign_cost": (
        GaugeMetricFamily,
        "What the newest campaign of an agent has cost so far, by the price table, in that currency.",
        ("agent", "currency"),
    ),
    "duologue_rounds_total": (CounterMetricFamily, "Rounds begun.", ("agent",)),
    "duologue_round_dialogues": (
        GaugeMetricFamily,
        "Training dialogues that are scored, of an agent's latest round and of the one before.",
        ("agent", "round"),
    ),
    "duologue_round_kept_ratio": (
        GaugeMetricFamily,
        "Share of the round's dialogues that the filters kept, once they have decided.",
        ("agent", "round"),
    ),
    "duologue_round_score": (
        GaugeMetricFamily,
        "Mean of a score over the training dialogues of the round, and their diversity.",
        ("agent", "round", "metric"),
    ),
    "duologue_gate_verdicts_total": (CounterMetricFamily, "Adapters that were evaluated.", ("agent", "verdict")),
    "duologue_gate_gain": (
        GaugeMetricFamily,
        "Gain of the newest evaluated adapter over the one that answered, with the bounds of its interval.",
        ("agent", "metric", "bound"),
    ),
    "duologue_adapter_released_timestamp_seconds": (
        GaugeMetricFamily,
        "When the adapter that answers was released; none for the base model.",
        ("agent", "adapter"),
    ),
    "duologue_canary_share_ratio": (
        GaugeMetricFamily,
        "Share of the training dialogues that goes to the open canary.",
        ("agent", "adapter"),
    ),
}

Sample = tuple[str, tuple[str, ...], float]
"""Name of a metric, values of its labels, value."""


class Standing(Collector):
    """Use `report` as work of a leader; what it found last is told to whoever scrapes, until the term is over."""

    def __init__(
        self,
        database: Database,
        specs: Specs,
        prices: Prices,
        registry: CollectorRegistry = REGISTRY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._specs = specs
        self._prices = prices
        self._clock = clock
        self._samples: Sequence[Sample] = ()
        registry.register(self)

    async def report(self, term: Term) -> None:
        """Look for as long as the term holds. What can't be told of ends nothing of what is done."""
        try:
            while term.holds:
                try:
                    await self.look()
                except DatabaseUnavailable:
                    raise  # the term is over
                except Exception:
                    log.exception("campaigns can't be told of")
                    self._samples = ()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._samples = ()

    async def look(self) -> None:
        self._samples = await self._database.run(lambda session: list(self._read(session)))

    def describe(self) -> Iterator[Metric]:
        """All that may be told, without a sample."""
        return iter(_families().values())

    def collect(self) -> Iterator[Metric]:
        """Called from the thread of the metrics' server."""
        families = _families()
        for name, labels, value in self._samples:
            families[name].add_metric(labels, value)
        return (family for family in families.values() if family.samples)

    def _read(self, session: Session) -> Iterator[Sample]:
        yield from _states(session)
        running = list(session.scalars(select(CampaignRow).where(CampaignRow.state == RUNNING)))
        yield from _phases(running)
        yield from self._budgets(running)
        for newest in _newest_of_each_agent(session):
            yield from self._of_agent(session, newest)

    def _budgets(self, running: Sequence[CampaignRow]) -> Iterator[Sample]:
        spent: dict[str, float] = {}
        for row in running:
            share = _spent(row, self._specs.of(row).spec.budget, self._clock())
            if share is not None:
                spent[row.name] = max(share, spent.get(row.name, 0.0))
        for agent, share in spent.items():
            yield "duologue_campaign_budget_spent_ratio", (agent,), share

    def _of_agent(self, session: Session, newest: CampaignRow) -> Iterator[Sample]:
        agent = newest.name
        paused = select(func.count()).where(
            CampaignRow.name == agent, CampaignRow.state == PAUSED, CampaignRow.reason != ""
        )
        yield "duologue_campaigns_paused_by_service", (agent,), session.scalar(paused) or 0
        cost = self._prices.cost((account, usage) for _, account, usage in expenses_of(session, newest.id))
        if cost is not None and cost.HasField("amount"):
            yield "duologue_campaign_cost", (agent, cost.currency), cost.amount
        yield from _rounds(session, agent)
        yield from _gate(session, agent)
        release = standing_release(session, agent)
        if release is not None and release.adapter_id:
            yield "duologue_adapter_released_timestamp_seconds", (agent, release.adapter_id), release.released_at
        canary = open_canary(session, agent)
        if canary is not None:
            yield "duologue_canary_share_ratio", (agent, canary.adapter_id), canary.share


def _families() -> Mapping[str, GaugeMetricFamily | CounterMetricFamily]:
    return {name: kind(name, text, labels=labels) for name, (kind, text, labels) in FAMILIES.items()}


def _states(session: Session) -> Iterator[Sample]:
    query = select(CampaignRow.state, func.count()).group_by(CampaignRow.state)
    counts = {row[0]: row[1] for row in session.execute(query)}
    for state in _STATES:
        yield "duologue_campaigns", (state,), counts.get(state, 0)


def _phases(running: Sequence[CampaignRow]) -> Iterator[Sample]:
    present = [(row.name, row.history[-1]) for row in running]
    for phase in _PHASES:
        yield "duologue_campaigns_running", (phase,), sum(current.phase == phase for _, current in present)
    for agent, phase in sorted({(agent, current.phase) for agent, current in present if current.phase in _PHASES}):
        those = [current for name, current in present if (name, current.phase) == (agent, phase)]
        oldest = min(current.progress_at for current in those)
        yield "duologue_campaign_progress_timestamp_seconds", (agent, phase), oldest
        yield "duologue_campaign_reissues", (agent, phase), max(each.reissues + each.standstills for each in those)


def _spent(row: CampaignRow, budget: Budget, now: float) -> float | None:
    """None without a budget."""
    tokens = (row.prompt_tokens + row.completion_tokens) / budget.tokens if budget.tokens else None
    time_ = (now - row.created_at) / budget.seconds if budget.seconds else None
    return max((share for share in (tokens, time_) if share is not None), default=None)


def _newest_of_each_agent(session: Session) -> Sequence[CampaignRow]:
    began = func.max(CampaignRow.created_at)
    newest = (
        select(CampaignRow.name, began.label("began"))
        .group_by(CampaignRow.name)
        .order_by(began.desc())
        .limit(_MOST_AGENTS)
        .subquery()
    )
    of_agent = (CampaignRow.name == newest.c.name) & (CampaignRow.created_at == newest.c.began)
    found = session.scalars(select(CampaignRow).join(newest, of_agent))
    return list({row.name: row for row in found}.values())


def _rounds(session: Session, agent: str) -> Iterator[Sample]:
    of_agent = select(RoundRow).join(CampaignRow).where(CampaignRow.name == agent)
    begun = session.scalar(select(func.count()).select_from(of_agent.subquery()))
    yield "duologue_rounds_total", (agent,), begun or 0
    newest = of_agent.order_by(CampaignRow.created_at.desc(), RoundRow.number.desc()).limit(2)
    for place, row in zip(("latest", "before"), session.scalars(newest), strict=False):
        yield "duologue_round_dialogues", (agent, place), max(row.counts.values(), default=0)
        if row.kept + row.dropped:
            yield "duologue_round_kept_ratio", (agent, place), row.kept / (row.kept + row.dropped)
        if row.diversity is not None:
            yield "duologue_round_score", (agent, place, "diversity"), row.diversity
        for metric, mean in means(row).items():
            yield "duologue_round_score", (agent, place, metric), mean


def _gate(session: Session, agent: str) -> Iterator[Sample]:
    evaluated = select(AdapterRow).where(AdapterRow.agent == agent, AdapterRow.evaluation.is_not(None))
    count = session.scalar(select(func.count()).select_from(evaluated.subquery())) or 0
    of_gate = select(func.count()).where(ReleaseRow.agent == agent, ReleaseRow.cause == "gate")
    released = session.scalar(of_gate) or 0
    yield "duologue_gate_verdicts_total", (agent, "released"), released
    yield "duologue_gate_verdicts_total", (agent, "refused"), count - released
    newest = session.scalar(evaluated.order_by(AdapterRow.created_at.desc()).limit(1))
    if newest is None or newest.evaluation is None:
        return
    for comparison in pb.Evaluation.FromString(newest.evaluation).comparisons:
        gain = comparison.gain
        for bound, value in (("value", gain.value), ("low", gain.low), ("high", gain.high)):
            yield "duologue_gate_gain", (agent, comparison.metric, bound), value
