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
    """A line of the child's standard output."""

    stage: Literal["loading", "training", "merging", "done"]
    step: int = 0
    steps: int = 0
    loss: float = 0.0


class TrainingResult(_Part):
    """`training.json` of an adapter: written last, so that an adapter with it is whole."""

    training_id: str
    base_model: str
    examples: int
    steps: int
    losses: list[float] = Field(description="Mean loss of each step, of the completions' tokens only.")
    seconds: float
    telling_probes: int = Field(description="Probes of the fingerprint that base and adapter answer differently.")
    versions: dict[str, str]
