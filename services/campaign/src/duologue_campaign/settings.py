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


class Price(Section):
    """What one model costs. What is left out costs nothing."""

    prompt: float = Field(0.0, ge=0, le=1_000_000, description="For a million prompt tokens.")
    cached: float | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="For a million of those that the server tells it had in its prefix cache; empty: as `prompt`.",
    )
    completion: float = Field(0.0, ge=0, le=1_000_000, description="For a million tokens that the model writes.")
    model_hour: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="For an hour of answers, one after the other. Of a server of your own: what its hour costs, over "
        "the requests that it answers at once.",
    )


class PriceSettings(Section):
    """The price table. Empty: no costs are shown."""

    currency: str = Field("EUR", min_length=1, max_length=16, description="Of all prices; shown after each amount.")
    models: dict[str, Price] = Field(
        {},
        description="By name of the model, or by a pattern such as desk-r* or *; the name itself wins over patterns, "
        "and the first pattern that fits over the others.",
    )


class QuotaSettings(Section):
    """What a new campaign is held to, where a cluster has several teams. One that was taken is never stopped for it."""

    campaigns: int = Field(0, ge=0, le=10_000, description="Campaigns at once, running and paused ones; 0: any number.")
    dialogues: int = Field(0, ge=0, description="Training dialogues of one campaign, over all rounds; 0: any number.")


class MlflowSettings(Section):
    """Where campaigns and releases are told of. Credentials come from MLflow's own variables, MLFLOW_TRACKING_..."""

    url: str = Field(
        "",
        pattern=r"^(https?://[^@\s]+)?$",
        description="Of the MLflow server: https://host:port; empty: nobody is told.",
    )
    experiment_prefix: str = Field(
        "duologue/", max_length=200, description="Of the experiments' names; a campaign's name and id follow."
    )


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    database: DatabaseSettings = DatabaseSettings(url="sqlite:///.duologue/campaign.db")
    filtering: PeerSettings = PeerSettings(address="127.0.0.1:7404")
    training: CopiesSettings = CopiesSettings(address="127.0.0.1:7405")
    prices: PriceSettings = PriceSettings()
    quota: QuotaSettings = QuotaSettings()
    mlflow: MlflowSettings = MlflowSettings()
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
