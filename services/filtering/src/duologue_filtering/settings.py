"""Settings of the filtering service."""

from __future__ import annotations

from duologue.runtime.settings import ArtifactSettings, DatabaseSettings, ServiceSettings


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    database: DatabaseSettings = DatabaseSettings(url="sqlite:///.duologue/filtering.db")
