"""Settings of the scoring service."""

from __future__ import annotations

from pydantic import Field

from duologue.models import Endpoint
from duologue.runtime.settings import ArtifactSettings, ServiceSettings


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    judge: Endpoint = Field(
        Endpoint(url="http://127.0.0.1:7421"), description="The model that judges whether an utterance is in character."
    )
    concurrency: int = Field(8, ge=1, le=10_000, description="Dialogues scored at once.")
