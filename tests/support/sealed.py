"""Datasets as filtering seals them."""

from __future__ import annotations

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq

from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import Dialogue
from duologue.store import ArtifactStore
from duologue_filtering.rows import SCHEMA, dataset_row
from tests.support.desk import CAMPAIGN_ID, DESK, scores


def sealed(artifacts: ArtifactStore, dataset_id: str, *dialogues: Dialogue) -> events_pb2.DatasetSealed:
    """A dataset of dialogues at the desk, written to the store."""
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist([dataset_row(item, scores(), DESK) for item in dialogues], schema=SCHEMA), file)
    data = artifacts.write(f"datasets/{dataset_id}/data.parquet", file.getvalue())
    manifest = artifacts.write(f"datasets/{dataset_id}/manifest.json", b'{"dataset_id": "%s"}' % dataset_id.encode())
    return events_pb2.DatasetSealed(
        dataset_id=dataset_id,
        campaign_id=CAMPAIGN_ID,
        round=1,
        candidates=9,
        kept=len(dialogues),
        data=dialogue_pb2.Artifact(uri=data.uri, sha256=data.sha256),
        manifest=dialogue_pb2.Artifact(uri=manifest.uri, sha256=manifest.sha256),
    )
