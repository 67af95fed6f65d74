"""Settings of the role-play service."""

from __future__ import annotations

from pydantic import Field

from duologue.models import Endpoint
from duologue.runtime.settings import ArtifactSettings, Section, ServiceSettings


class ModelSettings(Section):
    """Where each part's model is served. The manager answers typed decisions; the paper uses the client's model."""

    client: Endpoint = Endpoint(url="http://127.0.0.1:7421")
    agent: Endpoint = Endpoint(url="http://127.0.0.1:7422")
    manager: Endpoint = Endpoint(url="http://127.0.0.1:7421")


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    models: ModelSettings = ModelSettings()
    concurrency: int = Field(8, ge=1, le=10_000, description="Dialogues played at once.")
    speculate: bool = Field(
        False,
        description="Ask the agent for the likeliest next turn while the manager still decides: a turn pair takes two "
        "requests' time instead of three. Wrong guesses cost their tokens, so this is for servers with room to spare.",
    )
