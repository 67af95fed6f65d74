"""Settings of the control plane."""

from __future__ import annotations

from pydantic import Field

from duologue.runtime.settings import ArtifactSettings, DatabaseSettings, Section, ServiceSettings


class PeerSettings(Section):
    """Another service that this one asks by gRPC."""

    address: str = Field(description="host:port.")


class CopiesSettings(Section):
    """A service each of whose copies is asked."""

    address: str = Field(
        description="host:port of each copy, separated by commas: a copy knows of its own trainings alone."
    )

    @property
    def addresses(self) -> list[str]:
        return [address.strip() for address in self.address.split(",")]


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    database: DatabaseSettings = DatabaseSettings(url="sqlite:///.duologue/campaign.db")
    filtering: PeerSettings = PeerSettings(address="127.0.0.1:7404")
    training: CopiesSettings = CopiesSettings(address="127.0.0.1:7405")
    base_model: str = Field(
        "", description="Folder or id of the agent's weights, for training; a campaign's own setting wins."
    )
    reissue_seconds: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="Without progress for this long, a phase stands still: dialogues that are out are asked for again.",
    )
    reissues: int = Field(
        2,
        ge=0,
        le=100,
        description="Times in a row before a round goes on without its dialogues, or the campaign is paused.",
    )
