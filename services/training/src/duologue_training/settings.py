"""Settings of the training service."""

from __future__ import annotations

from pydantic import Field

from duologue.runtime.settings import ArtifactSettings, ServiceSettings


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    attempts: int = Field(3, ge=1, le=20, description="Tries of a training whose process was killed.")
    merge: bool = Field(
        True, description="Also write the base model with the adapter merged in, for servers that load no adapters."
    )
    threads: int = Field(0, ge=0, le=1024, description="Processor threads of a training; 0 leaves it to PyTorch.")
    device: str = Field(
        "auto",
        pattern="^(auto|cpu|cuda|mps)$",
        description="Where to train. auto takes the best that there is; of the others, what is not there is an error.",
    )
    work: str = Field(
        ".duologue/training",
        description="Folder of trainings under way, of this process alone. One that is finished and not yet stored is "
        "found there again.",
    )
