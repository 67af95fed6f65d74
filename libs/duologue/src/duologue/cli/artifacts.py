"""Artifacts of the local store, for commands."""

from __future__ import annotations

import os

from duologue.cli.local.layout import Layout
from duologue.cli.output import Failure
from duologue.contracts.v1 import dialogue_pb2

# For commands against services elsewhere; on one machine the store is in the local folder.
ARTIFACTS_VARIABLE = "DUOLOGUE_ARTIFACTS__URL"


def artifact_bytes(artifact: dialogue_pb2.Artifact) -> bytes:
    """The bytes of an artifact, checked against its hash."""
    # SQL comes along with the store: a second that other commands need not wait for.
    from duologue.store import ArtifactDamaged, ArtifactStore

    root = os.environ.get(ARTIFACTS_VARIABLE) or str(Layout.here().artifacts)
    try:
        return ArtifactStore(root).read(artifact.uri, artifact.sha256)
    except FileNotFoundError:
        raise Failure(f"{artifact.uri} is not in the artifact store {root} (set {ARTIFACTS_VARIABLE}).") from None
    except ArtifactDamaged as error:
        raise Failure(str(error)) from None
