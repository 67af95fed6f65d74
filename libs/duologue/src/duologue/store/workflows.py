"""Workflows by their content: written once by the control plane, read and kept by everyone else."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict

from pydantic import ValidationError

from duologue.contracts.v1 import dialogue_pb2 as pb
from duologue.core.workflow import Workflow
from duologue.store.artifacts import ArtifactDamaged, ArtifactStore

_KEPT = 256


class WorkflowStore:
    """Workflows in the artifact store, the last few hundred in memory. For any thread."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._kept: OrderedDict[str, Workflow] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, workflow: Workflow) -> pb.WorkflowRef:
        stored = self._artifacts.write(f"workflows/{workflow.version}.json", workflow.to_json().encode())
        artifact = pb.Artifact(uri=stored.uri, sha256=stored.sha256)
        return pb.WorkflowRef(id=workflow.id, version=workflow.version, artifact=artifact)

    def get(self, ref: pb.WorkflowRef) -> Workflow:
        """Raises FileNotFoundError, or `ArtifactDamaged` when what lies there is another workflow."""
        workflow = self._kept.get(ref.version) or _parsed(self._artifacts.read(ref.artifact.uri, ref.artifact.sha256))
        if workflow is None or (workflow.version, workflow.id) != (ref.version, ref.id):
            raise ArtifactDamaged(f"{ref.artifact.uri} is not version {ref.version} of {ref.id}")
        with self._lock:
            self._kept[ref.version] = workflow
            self._kept.move_to_end(ref.version)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return workflow

    async def find(self, ref: pb.WorkflowRef) -> Workflow:
        """The same beside the event loop, which need not be left for a workflow that is in memory."""
        return self.get(ref) if ref.version in self._kept else await asyncio.to_thread(self.get, ref)


def _parsed(data: bytes) -> Workflow | None:
    try:
        return Workflow.model_validate_json(data)
    except ValidationError:
        return None
