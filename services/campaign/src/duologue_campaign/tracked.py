"""What MLflow is to have of a campaign and of an agent, as the tables have it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2
from duologue.core.campaign import Campaign
from duologue.core.usage import total
from duologue_campaign.canaries import open_canary
from duologue_campaign.expenses import expenses_of
from duologue_campaign.means import means
from duologue_campaign.phases import CANCELLED, COMPLETED, DONE, FAILED, GENERATING, SEALING
from duologue_campaign.prices import Prices
from duologue_campaign.releases import released_adapter_id
from duologue_campaign.tables import AdapterRow, CampaignRow, CanaryRow, DatasetRow, ReleaseRow, RoundRow

UrlOf = Callable[[str], str]
"""Where an artifact is to be found from outside, given its URI in the store."""

# MLflow takes no more of a tag or a parameter.
_LONGEST_VALUE = 5000
_STATUS = {COMPLETED: "FINISHED", FAILED: "FAILED", CANCELLED: "KILLED"}
# What a spec says that no round's outcome depends on.
_BESIDE = {"campaign", "description", "concurrency"}


@dataclass(frozen=True)
class TrackedDataset:
    """A sealed dataset. `sha256` is of its data."""

    name: str
    url: str
    sha256: str
    manifest_url: str
    kept: int


@dataclass(frozen=True)
class TrackedRound:
    """A run of MLflow. Times are seconds since the epoch."""

    number: int
    status: str
    began_at: float
    ended_at: float | None
    parameters: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    datasets: tuple[TrackedDataset, ...]


@dataclass(frozen=True)
class TrackedCampaign:
    """An experiment."""

    id: str
    agent: str
    tags: dict[str, str]
    rounds: tuple[TrackedRound, ...]


@dataclass(frozen=True)
class TrackedAdapter:
    """A version of a registered model."""

    id: str
    campaign_id: str
    round: int
    url: str
    tags: dict[str, str]


@dataclass(frozen=True)
class TrackedAgent:
    """A registered model. `aliases` are ids of adapters; "" where the base model answers, or there is no canary."""

    name: str
    adapters: tuple[TrackedAdapter, ...]
    aliases: dict[str, str]


def digest_of(tracked: TrackedCampaign | TrackedAgent) -> str:
    """A SHA-256 that changes whenever there is something to tell."""
    return hashlib.sha256(json.dumps(asdict(tracked), sort_keys=True).encode()).hexdigest()


def tracked_campaign(
    session: Session, row: CampaignRow, campaign: Campaign, prices: Prices, url_of: UrlOf
) -> TrackedCampaign:
    parameters = {name: _cut(value) for name, value in _parameters(campaign)}
    began_at, rounds = row.created_at, []
    for current in row.history:
        rounds.append(_tracked_round(session, row, current, began_at, parameters, prices, url_of))
        began_at = current.phase_began_at  # of the next one: a round begins in the moment that the one before ends
    tags = {
        "campaign_id": row.id,
        "agent": row.name,
        "state": row.state,
        "reason": row.reason,
        "spec_version": row.spec_version,
        "description": campaign.spec.description,
    }
    return TrackedCampaign(row.id, row.name, _tags(tags), tuple(rounds))


def tracked_agent(session: Session, name: str, url_of: UrlOf) -> TrackedAgent:
    """With every adapter that ever answered, be it for a share."""
    released = select(ReleaseRow.adapter_id).where(ReleaseRow.agent == name)
    tried = select(CanaryRow.adapter_id).where(CanaryRow.agent == name)
    query = select(AdapterRow).where(or_(AdapterRow.id.in_(released), AdapterRow.id.in_(tried)))
    adapters = session.scalars(query.order_by(AdapterRow.created_at, AdapterRow.id))
    canary = open_canary(session, name)
    aliases = {"released": released_adapter_id(session, name), "canary": canary.adapter_id if canary else ""}
    return TrackedAgent(name, tuple(_tracked_adapter(session, row, url_of) for row in adapters), aliases)


def _tracked_round(
    session: Session,
    row: CampaignRow,
    current: RoundRow,
    began_at: float,
    parameters: dict[str, str],
    prices: Prices,
    url_of: UrlOf,
) -> TrackedRound:
    adapter = session.get(AdapterRow, current.adapter_id) if current.adapter_id else None
    dataset = session.get(DatasetRow, current.dataset_id) if current.dataset_id else None
    is_last = current is row.history[-1]
    status = "FINISHED" if current.phase == DONE else "RUNNING"
    if is_last and row.finished_at is not None:
        status = _STATUS[row.state]
    ended_at = None if status == "RUNNING" else row.finished_at if is_last else current.phase_began_at
    metrics = dict(_figures(current, dataset))
    if current.phase == DONE:
        metrics |= _expenses(session, row, current, dataset, prices)
        metrics["seconds"] = current.phase_began_at - began_at
    tags = {"campaign_id": row.id, "agent": row.name, "phase": current.phase, "outcome": current.outcome}
    tags["note"] = current.note
    tags["currency"] = prices.currency if any(name.startswith("cost/") for name in metrics) else ""
    if adapter is not None:
        tags |= _adapter_tags(adapter, url_of)
        metrics |= _training(adapter) | dict(_gate(adapter))
    return TrackedRound(
        number=current.number,
        status=status,
        began_at=began_at,
        ended_at=ended_at,
        parameters=parameters,
        metrics=metrics,
        tags=_tags(tags),
        datasets=_datasets(session, adapter.dataset_ids if adapter is not None else [current.dataset_id], url_of),
    )


def _figures(current: RoundRow, dataset: DatasetRow | None) -> Iterator[tuple[str, float]]:
    """What a round's dialogues came to, once all are there: figures that still grow make no metric."""
    if current.phase == GENERATING:
        return
    for name, mean in means(current).items():
        yield f"scores/{name}", mean
    if current.diversity is not None:
        yield "scores/diversity", current.diversity
    if current.phase == SEALING or dataset is None:
        return
    yield "dialogues/candidates", current.candidates
    yield "dialogues/kept", dataset.kept
    if current.candidates:
        yield "dialogues/yield", dataset.kept / current.candidates
    if current.phase == DONE:
        for name, count in current.dropped_by.items():
            yield f"dropped/{name}", count


def _expenses(
    session: Session, row: CampaignRow, current: RoundRow, dataset: DatasetRow | None, prices: Prices
) -> dict[str, float]:
    """Of the round's own dialogues; none where that was not noted."""
    accounts = [(account, usage) for _, account, usage in expenses_of(session, row.id, current.number)]
    if not accounts:
        return {}
    used = total(usage for _, usage in accounts)
    found: dict[str, float] = {
        "usage/prompt_tokens": used.prompt_tokens,
        "usage/completion_tokens": used.completion_tokens,
        "usage/model_seconds": used.seconds,
    }
    cost = prices.cost(accounts)
    each = prices.cost_of_each(cost, dataset.kept if dataset is not None else 0)
    if cost is not None and cost.HasField("amount"):
        found["cost/total"] = cost.amount
    if each is not None:
        found["cost/per_kept"] = each.amount
    return found


def _training(adapter: AdapterRow) -> dict[str, float]:
    training = events_pb2.TrainingCompleted.FromString(adapter.training or b"")
    if adapter.training is None or training.error:
        return {}
    names = ("examples", "steps", "first_loss", "last_loss", "seconds")
    return {f"training/{name}": float(getattr(training, name)) for name in names}


def _gate(adapter: AdapterRow) -> Iterator[tuple[str, float]]:
    """Each comparison with the bounds of its intervals."""
    if adapter.evaluation is None:
        return
    evaluation = pb.Evaluation.FromString(adapter.evaluation)
    yield "gate/released", float(evaluation.released)
    for comparison in evaluation.comparisons:
        for side in ("current", "candidate", "gain"):
            interval = getattr(comparison, side)
            yield f"gate/{comparison.metric}/{side}", interval.value
            yield f"gate/{comparison.metric}/{side}.low", interval.low
            yield f"gate/{comparison.metric}/{side}.high", interval.high
        yield f"gate/{comparison.metric}/pairs", comparison.pairs


def _tracked_adapter(session: Session, row: AdapterRow, url_of: UrlOf) -> TrackedAdapter:
    training = events_pb2.TrainingCompleted.FromString(row.training or b"")
    datasets = _datasets(session, row.dataset_ids, url_of)
    tags = {
        "campaign_id": row.campaign_id,
        "round": str(row.round),
        "state": row.state,
        **_adapter_tags(row, url_of),
        "datasets": json.dumps([{"url": dataset.url, "sha256": dataset.sha256} for dataset in datasets]),
    }
    return TrackedAdapter(row.id, row.campaign_id, row.round, _url(training.artifact.uri, url_of), _tags(tags))


def _adapter_tags(row: AdapterRow, url_of: UrlOf) -> dict[str, str]:
    """What leads to an adapter's files, and shows that they are those that were trained."""
    tags = {"adapter_id": row.id}
    training = events_pb2.TrainingCompleted.FromString(row.training or b"")
    if row.training is None or training.error:
        return tags
    fingerprint = training.adapter.fingerprint
    return tags | {
        "adapter_url": _url(training.artifact.uri, url_of),
        "adapter_sha256": training.artifact.sha256,
        "fingerprint_url": _url(fingerprint.uri, url_of),
        "fingerprint_sha256": fingerprint.sha256,
    }


def _datasets(session: Session, dataset_ids: list[str], url_of: UrlOf) -> tuple[TrackedDataset, ...]:
    rows = session.scalars(select(DatasetRow).where(DatasetRow.id.in_(dataset_ids)).order_by(DatasetRow.round))
    return tuple(_tracked_dataset(row, url_of) for row in rows)


def _tracked_dataset(row: DatasetRow, url_of: UrlOf) -> TrackedDataset:
    sealed = events_pb2.DatasetSealed.FromString(row.sealed)
    manifest = _url(sealed.manifest.uri, url_of)
    return TrackedDataset(row.id, _url(sealed.data.uri, url_of), sealed.data.sha256, manifest, row.kept)


def _url(uri: str, url_of: UrlOf) -> str:
    return url_of(uri) if uri else ""


def _parameters(campaign: Campaign) -> Iterator[tuple[str, str]]:
    """The spec, flat: `training.rank`, and lists as JSON."""
    yield "spec_version", campaign.version
    spec = campaign.spec.model_dump(mode="json", exclude=_BESIDE)
    yield from _flat(spec, "")


def _flat(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in part.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value not in (None, ""):
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {f"duologue.{name}": _cut(value) for name, value in tags.items() if value}


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 3]}..."
