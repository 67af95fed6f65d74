"""What a campaign is asked to do: which workflows and personas, how many dialogues, which filters, what gate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from duologue.core.dialogue import Preset
from duologue.core.persona import Persona, load_personas
from duologue.core.presets import with_defaults
from duologue.core.problems import InvalidInput, Problem
from duologue.core.source import Source, parse_yaml, validate
from duologue.core.workflow import Identifier, Text, Workflow
from duologue.core.workflow_file import load_workflow

# Of these more is better.
Quality = Literal[
    "subgoals_absolute",
    "subgoals_relative",
    "subgoals_branch",
    "ended",
    "success",
    "character_client",
    "character_agent",
    "words",
    "ngrams",
]
Metric = Literal[Quality, "repeats", "role_leaks"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Share = Annotated[float, Field(gt=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Split(_Part):
    """Files of the training side and of the held-out side; nothing may stand on both."""

    training: tuple[Text, ...] = Field(min_length=1, description="Files to make training dialogues with.")
    held_out: tuple[Text, ...] = Field(min_length=1, description="Files that only evaluation sees.")


class Models(_Part):
    """Models to ask the servers for; empty: the model that the server's settings name."""

    client: str = Field("", description="Plays the client; it is never trained.")
    agent: str = Field("", description="Plays the agent where no adapter does.")
    manager: str = Field("", description="Answers the decisions.")


class Decoding(_Part):
    """How client and agent sample (defaults of the paper, section 4)."""

    temperature: float = Field(0.8, ge=0, le=2, description="0 is greedy.")
    top_p: float = Field(0.95, gt=0, le=1, description="Share of the probability that is sampled from (nucleus).")
    top_k: int = Field(
        0, ge=0, le=1_000_000, description="Likeliest tokens that are sampled from; 0: all, or as the server is set up."
    )
    max_tokens: int = Field(100, ge=1, le=2048, description="New tokens per utterance.")


class RolePlay(_Part):
    """How a dialogue is steered and when it stops."""

    max_turns: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Agent turns at most; empty: the paper's 8, or two more than the workflow's longest path.",
    )
    recoveries: int = Field(
        2, ge=0, le=100, description="Replies in a row that fit no edge before the dialogue is derailed."
    )

    def most_turns(self, workflow: Workflow) -> int:
        """Agent turns at most in a dialogue along `workflow`."""
        return self.max_turns or max(8, workflow.longest_path + 2)


class RandomFilter(_Part):
    """Keeps a random share of the dialogues."""

    kind: Literal["random"]
    share: Share


class AtLeastFilter(_Part):
    """Keeps dialogues whose metric is at least `value`."""

    kind: Literal["at_least"]
    metric: Metric
    value: float


class AtMostFilter(_Part):
    """Keeps dialogues whose metric is at most `value`."""

    kind: Literal["at_most"]
    metric: Metric
    value: float


class TopFilter(_Part):
    """Keeps the best share by a metric; ties are broken by dialogue id."""

    kind: Literal["top"]
    metric: Quality = "subgoals_relative"
    share: Share


class EndedFilter(_Part):
    """Keeps dialogues that reached one of their workflow's endings."""

    kind: Literal["ended"]


Filter = Annotated[RandomFilter | AtLeastFilter | AtMostFilter | TopFilter | EndedFilter, Field(discriminator="kind")]


class Training(_Part):
    """LoRA fine-tuning of the agent, always from the base model (defaults of the paper, section 4)."""

    base_model: str = Field("", description="Folder or id of the weights; empty: the agent's model.")
    rank: int = Field(64, ge=1, le=512, description="Of the LoRA matrices.")
    alpha: int = Field(64, ge=1, le=1024, description="Scale of the LoRA update, over the rank.")
    learning_rate: float = Field(5e-4, gt=0, le=1, description="At the end of the warm-up.")
    weight_decay: float = Field(0.01, ge=0, le=1, description="Of AdamW.")
    batch_size: int = Field(4, ge=1, le=1024, description="Agent turns per step.")
    epochs: int = Field(1, ge=1, le=100, description="Times that each agent turn is seen.")
    warmup_steps: int = Field(10, ge=0, le=100_000, description="Steps until the learning rate is reached.")
    max_tokens: int = Field(1024, ge=16, le=131_072, description="Longer examples are cut off at the front.")
    min_kept: int = Field(8, ge=1, description="Fewer kept dialogues than this, over all rounds: no training.")
    accumulate: bool = Field(True, description="Train on the kept dialogues of all rounds so far.")


class Gate(_Part):
    """When a new adapter replaces the current one, judged on paired held-out dialogues."""

    metric: Quality = Field("subgoals_relative", description="What the new adapter must be better at.")
    min_gain: float = Field(0.0, ge=0, description="The lower confidence bound of the gain must be above this.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of the intervals.")
    guards: tuple[Quality, ...] = Field(("success",), description="Metrics that must not fall significantly.")


class Evaluation(_Part):
    """Held-out dialogues per adapter. Both adapters meet the same personas, intentions and seeds."""

    dialogues: int = Field(100, ge=2, le=100_000, description="Per adapter; below 20 nothing is ever released.")
    structured: bool = Field(True, description="Whether the agent is told what the workflow wants said.")


class Budget(_Part):
    """Where a campaign stops by itself; empty: no limit."""

    tokens: int | None = Field(None, ge=1, description="Prompt and completion tokens of all models.")
    seconds: float | None = Field(None, gt=0, description="Wall time since the campaign began.")


class CampaignSpec(_Part):
    """The campaign file. Paths in it are relative to the file."""

    campaign: Identifier = Field(description="Its name, and the name of the agent that it trains.")
    description: str = Field("", description="What it is for; for people.")
    preset: Preset = Field(
        Preset.DUOLOGUE, description="By whose rules dialogues are played, and whose figures hold where none are given."
    )
    workflows: Split
    personas: Split
    rounds: int = Field(1, ge=1, le=1000, description="Each with dialogues, a dataset, an adapter and an evaluation.")
    dialogues: int = Field(ge=1, le=1_000_000, description="Training dialogues per round.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of casts, draws, sampling and training.")
    concurrency: int = Field(32, ge=1, le=10_000, description="Dialogues requested and not yet scored, at most.")
    models: Models = Models()
    decoding: Decoding = Decoding()
    role_play: RolePlay = RolePlay()
    filters: tuple[Filter, ...] = Field((), description="One after the other, each on what the ones before left.")
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    budget: Budget = Budget()

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        return with_defaults(given) if isinstance(given, dict) else given


@dataclass(frozen=True)
class Campaign:
    """A campaign spec with the workflows and personas that it names, all checked."""

    spec: CampaignSpec
    training_workflows: tuple[Workflow, ...]
    held_out_workflows: tuple[Workflow, ...]
    training_personas: tuple[Persona, ...]
    held_out_personas: tuple[Persona, ...]

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the spec and all that it names."""
        workflows = (*self.training_workflows, *self.held_out_workflows)
        personas = (*self.training_personas, *self.held_out_personas)
        versions = [*(workflow.version for workflow in workflows), *(persona.version for persona in personas)]
        digest = hashlib.sha256("".join([self.spec.model_dump_json(), *versions]).encode())
        return digest.hexdigest()[:12]


def load_campaign(text: str, file: str, read: Callable[[str], str]) -> Campaign:
    """A checked campaign.

    `read` returns the text of a file named in the spec, or raises `OSError`. Raises `InvalidInput` with every
    mistake of the spec and of the files that it names.
    """
    source = parse_yaml(text, file)
    spec = validate(CampaignSpec, source)
    loader = _Loader(source, read)
    campaign = Campaign(
        spec,
        training_workflows=loader.workflows("training", spec.workflows.training),
        held_out_workflows=loader.workflows("held_out", spec.workflows.held_out),
        training_personas=loader.personas("training", spec.personas.training),
        held_out_personas=loader.personas("held_out", spec.personas.held_out),
    )
    problems = loader.problems or [*_overlaps(campaign, source), *_out_of_reach(campaign, source)]
    if problems:
        raise InvalidInput(problems)
    return campaign


class _Loader:
    """Reads the files of a spec and collects all their problems, so that one run names them all."""

    def __init__(self, source: Source, read: Callable[[str], str]) -> None:
        self.source = source
        self.read = read
        self.problems: list[Problem] = []

    def workflows(self, side: str, files: tuple[str, ...]) -> tuple[Workflow, ...]:
        found: dict[str, Workflow] = {}
        for index, text, file in self._texts("workflows", side, files):
            try:
                workflow = load_workflow(text, file)
            except InvalidInput as error:
                self.problems.extend(error.problems)
                continue
            if workflow.id in found:
                message = f'workflow "{workflow.id}" is listed twice'
                self.problems.append(self.source.problem(("workflows", side, index), message, "Remove one."))
            found[workflow.id] = workflow
        return tuple(found.values())

    def personas(self, side: str, files: tuple[str, ...]) -> tuple[Persona, ...]:
        found: dict[str, Persona] = {}
        for index, text, file in self._texts("personas", side, files):
            try:
                personas = load_personas(text, file)
            except InvalidInput as error:
                self.problems.extend(error.problems)
                continue
            for persona in personas:
                if persona.id in found:
                    message = f'persona "{persona.id}" of {file} is listed twice'
                    self.problems.append(self.source.problem(("personas", side, index), message, "Remove one."))
                found[persona.id] = persona
        return tuple(found.values())

    def _texts(self, kind: str, side: str, files: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
        for index, file in enumerate(files):
            try:
                yield index, self.read(file), file
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not a text file"
                message = f"can't read {file}: {reason}"
                fix = f"Paths are relative to the folder of {self.source.file}."
                self.problems.append(self.source.problem((kind, side, index), message, fix))


def _overlaps(campaign: Campaign, source: Source) -> Iterator[Problem]:
    sides = (
        ("workflow", "workflows", campaign.training_workflows, campaign.held_out_workflows),
        ("persona", "personas", campaign.training_personas, campaign.held_out_personas),
    )
    for noun, field, training, held_out in sides:
        for identifier in sorted({part.id for part in training} & {part.id for part in held_out}):
            yield source.problem(
                (field, "held_out"),
                f'{noun} "{identifier}" is in both splits',
                "A held-out side that was trained on measures nothing: list it on one side only.",
            )


def _out_of_reach(campaign: Campaign, source: Source) -> Iterator[Problem]:
    for workflow in (*campaign.training_workflows, *campaign.held_out_workflows):
        most, fewest = campaign.spec.role_play.most_turns(workflow), workflow.shortest_path
        if fewest > most:
            yield source.problem(
                ("role_play", "max_turns"),
                f'role_play.max_turns is {most}; the shortest way through workflow "{workflow.id}" has {fewest}',
                "Raise it, or no dialogue of that workflow can end.",
            )
