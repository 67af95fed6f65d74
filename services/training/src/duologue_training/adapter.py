"""A finished training goes into the artifact store as an adapter."""

from __future__ import annotations

from pathlib import Path

from duologue.store import ArtifactStore, listing_sha256
from duologue_training.card import adapter_card
from duologue_training.order import TrainingOrder
from duologue_training.plan import DatasetUsed, TrainingRecord, TrainingResult


def adapter_folder(adapter_id: str) -> str:
    return f"adapters/{adapter_id}"


def is_stored(artifacts: ArtifactStore, adapter_id: str) -> bool:
    """Whether the adapter is there, whole."""
    return artifacts.exists(f"{adapter_folder(adapter_id)}/training.json")


def store_adapter(artifacts: ArtifactStore, order: TrainingOrder, result: TrainingResult, out: Path) -> None:
    """Store what a training left in `out`, with its card and its record."""
    request = order.request
    folder = adapter_folder(request.adapter_id)
    base_model_sha256 = listing_sha256(result.base_files)
    (out / "README.md").write_text(adapter_card(request, order.plan, result, base_model_sha256))
    record = TrainingRecord(
        campaign_id=request.campaign_id,
        round=request.round,
        base_model=request.base_model,
        base_model_sha256=base_model_sha256,
        datasets=[
            DatasetUsed(dataset_id=sealed.dataset_id, uri=sealed.data.uri, sha256=sealed.data.sha256)
            for sealed in request.datasets
        ],
        plan=order.plan.model_dump(exclude={"examples"}),
        result=result,
        sha256=artifacts.write_folder(folder, out).sha256,
    )
    # Last, and atomically: an adapter with this file is whole.
    artifacts.write(f"{folder}/training.json", record.model_dump_json(indent=2).encode())
