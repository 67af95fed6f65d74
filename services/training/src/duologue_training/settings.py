"""Settings of the training service."""

from __future__ import annotations

from pydantic import Field

from duologue.runtime.settings import ArtifactSettings, Section, ServiceSettings


class JobSettings(Section):
    """Trainings as Jobs on Kubernetes, each in a pod of its own."""

    template: str = Field(
        "",
        description="YAML file with the Job to make for a training, see docs/operations/kubernetes-trainings.md; "
        "empty: a child process of the service trains.",
    )
    namespace: str = Field(
        "",
        description="Where the Jobs are made; the service account's own, or that of KUBECONFIG's context, when empty.",
    )
    waiting_seconds: float = Field(
        3600.0,
        ge=1,
        le=2_592_000,
        description="For a Job to be let in, and its pod to get node, image and volumes; then the training has failed.",
    )
    poll_seconds: float = Field(2.0, ge=0.05, le=60, description="Pause between two looks at a Job.")


class Settings(ServiceSettings):
    artifacts: ArtifactSettings = ArtifactSettings()
    job: JobSettings = JobSettings()
    attempts: int = Field(3, ge=1, le=20, description="Tries of a training whose process or pod was killed.")
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
        description="Folder of trainings under way, of this process alone. One that a child process finished, and that "
        "is not yet stored, is found there again.",
    )
