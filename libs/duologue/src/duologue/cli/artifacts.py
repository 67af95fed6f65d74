"""Artifacts for commands: of the local store, or of the one that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.cli.local.layout import Layout
from duologue.cli.output import Failure
from duologue.contracts.v1 import dialogue_pb2

if TYPE_CHECKING:
    from duologue.store import ArtifactStore

# For commands against services elsewhere; on one machine the store is in the local folder.
ARTIFACTS_VARIABLE = "DUOLOGUE_ARTIFACTS__URL"


def artifact_bytes(artifact: dialogue_pb2.Artifact) -> bytes:
    """The bytes of an artifact that fits into memory, checked against its hash."""
    with _store(artifact) as store:
        return store.read(artifact.uri, artifact.sha256)


def fetch_artifact(artifact: dialogue_pb2.Artifact, target: Path) -> Path:
    """A local copy of an artifact of any size, checked against its hash."""
    with _store(artifact) as store:
        store.fetch(artifact.uri, target, artifact.sha256)
    return target


@contextmanager
def _store(artifact: dialogue_pb2.Artifact) -> Iterator[ArtifactStore]:
    # SQL comes along with the store: a second that other commands need not wait for.
    from duologue.core.problems import WrongSetting
    from duologue.runtime.settings import ArtifactSettings, ServiceSettings, load_settings
    from duologue.store import ArtifactDamaged, ArtifactStore, ArtifactsUnavailable

    class Settings(ServiceSettings):
        artifacts: ArtifactSettings = ArtifactSettings()

    settings = load_settings(Settings, []).artifacts
    root = settings.url if "url" in settings.model_fields_set else str(Layout.here().artifacts)
    try:
        yield ArtifactStore(root, settings.s3.options)
    except FileNotFoundError:
        raise Failure(f"{artifact.uri} is not in the artifact store {root} (set {ARTIFACTS_VARIABLE}).") from None
    except (ArtifactDamaged, ArtifactsUnavailable, WrongSetting) as error:
        raise Failure(str(error)) from None
