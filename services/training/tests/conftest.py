"""Sealed datasets to train on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from duologue.contracts.v1 import events_pb2
from duologue.store import ArtifactStore
from tests.support.desk import CAMPAIGN_ID, dialogue
from tests.support.sealed import sealed


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
def seal(artifacts: ArtifactStore) -> Callable[..., events_pb2.DatasetSealed]:
    """Writes dialogues as filtering does."""
    return partial(sealed, artifacts)


@pytest.fixture
def order(seal: Callable[..., events_pb2.DatasetSealed]) -> events_pb2.TrainingRequested:
    """A training on two datasets of one dialogue each: six agent turns."""
    return events_pb2.TrainingRequested(
        training_id="desk-r2",
        campaign_id=CAMPAIGN_ID,
        round=2,
        adapter_id="desk-r2",
        datasets=[seal("desk-r1", dialogue("a0")), seal("desk-r2", dialogue("b0"))],
        base_model="models/base",
        rank=4,
        alpha=8,
        learning_rate=0.01,
        weight_decay=0.01,
        batch_size=2,
        epochs=1,
        warmup_steps=1,
        max_tokens=512,
        seed=3,
    )
