"""What the training process is told, and what it tells: JSON files and lines between the service and its child."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from duologue.core.prompts import Message

# Exit status of the child for a plan that can't work, as opposed to a process that was killed.
UNUSABLE = 3


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Part):
    """One agent turn: its prompt, and what is learnt."""

    prompt: list[Message]
    completion: str


class TrainingPlan(_Part):
    """All that a training needs, in one file."""

    training_id: str
    base_model: str
    examples: list[Example] = Field(min_length=1)
    rank: int
    alpha: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    warmup_steps: int
    max_tokens: int
    seed: int
    merge: bool
    threads: int
    device: str


class ProgressLine(_Part):
    """A line of the child's standard output; `waiting`, with the reason, is said of a Job that can't begin."""

    stage: Literal["waiting", "loading", "training", "merging", "done"]
    step: int = 0
    steps: int = 0
    loss: float = 0.0
    reason: str = ""


class TrainingResult(_Part):
    """What came of a training, as the training process tells it."""

    base_files: dict[str, str] = Field(description="SHA-256 of the base model's config and weights, by file name.")
    examples: int
    steps: int
    losses: list[float] = Field(description="Mean loss of each step, of the completions' tokens only.")
    seconds: float
    telling_probes: int = Field(description="Probes of the fingerprint that base and adapter answer differently.")
    versions: dict[str, str]


class DatasetUsed(_Part):
    """A dataset that was learnt, its data relative to the artifact store."""

    dataset_id: str
    uri: str
    sha256: str


class TrainingRecord(_Part):
    """`training.json` of an adapter: written last, so that an adapter with it is whole. It leads back to its origin."""

    campaign_id: str
    round: int
    base_model: str
    base_model_sha256: str = Field(description="Of the listing of the result's `base_files`.")
    datasets: list[DatasetUsed]
    plan: dict[str, str | int | float | bool] = Field(description="All that was asked for but the examples.")
    result: TrainingResult
    sha256: str = Field(description="Of the listing of all other files of the adapter.")
