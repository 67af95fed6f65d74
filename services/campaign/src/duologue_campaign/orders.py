"""Which training a round asks for: its datasets, and the spec's settings."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from duologue.contracts.v1 import events_pb2
from duologue.core.campaign import Campaign
from duologue_campaign.tables import AdapterRow, CampaignRow, DatasetRow, RoundRow


def training_data(session: Session, row: CampaignRow, current: RoundRow, campaign: Campaign) -> list[DatasetRow]:
    """Datasets to train a round's adapter on, oldest first."""
    query = select(DatasetRow).where(DatasetRow.campaign_id == row.id, DatasetRow.kept > 0)
    if not campaign.spec.training.accumulate:
        query = query.where(DatasetRow.round == current.number)
    return list(session.scalars(query.order_by(DatasetRow.round)))


def why_no_training(current: RoundRow, campaign: Campaign, datasets: Sequence[DatasetRow]) -> str:
    """Why these datasets are not trained on; empty when they are."""
    kept = sum(dataset.kept for dataset in datasets)
    if kept < campaign.spec.training.min_kept:
        return f"{kept} dialogues kept, training.min_kept asks for {campaign.spec.training.min_kept}"
    if all(dataset.round != current.number for dataset in datasets):
        return "nothing new was kept"  # the same data and seed give the adapter of the round before
    return ""


def training_order(
    session: Session, adapter: AdapterRow, campaign: Campaign, base_model: str
) -> events_pb2.TrainingRequested:
    """The order for an adapter: the same however often it is made. `base_model`: where the spec names none."""
    training = campaign.spec.training
    datasets = [session.get_one(DatasetRow, dataset_id) for dataset_id in adapter.dataset_ids]
    return events_pb2.TrainingRequested(
        training_id=adapter.id,
        campaign_id=adapter.campaign_id,
        round=adapter.round,
        adapter_id=adapter.id,
        datasets=[events_pb2.DatasetSealed.FromString(dataset.sealed) for dataset in datasets],
        base_model=training.base_model or campaign.spec.models.agent or base_model,
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
