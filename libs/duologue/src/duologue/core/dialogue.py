"""A dialogue: what was said, where in the workflow, why the engine went on as it did, and where it all came from."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import StrEnum

from duologue.core.usage import Account, Usage


class Role(StrEnum):
    CLIENT = "client"
    AGENT = "agent"
    TOOL = "tool"


class Split(StrEnum):
    TRAINING = "training"
    EVALUATION = "evaluation"


class Preset(StrEnum):
    """By whose rules a dialogue is played."""

    DUOLOGUE = "duologue"
    ULMER2024 = "ulmer2024"  # as in the paper, for comparison: see core.ulmer2024


class EndReason(StrEnum):
    """Why a dialogue stopped."""

    COMPLETED = "completed"  # the agent said an ending of the workflow
    CLIENT_LEFT = "client_left"  # the end detector said that the client is done, before an ending
    DERAILED = "derailed"  # too many replies in a row that fit no edge
    TURN_LIMIT = "turn_limit"
    SILENT = "silent"  # a role produced no usable utterance, even when asked again
    OTHER = "other"  # one that this version does not know: read from a newer one, never given


@dataclass(frozen=True, slots=True)
class Decision:
    """One typed question to a model, and what it answered.

    `probabilities` has every option, sums to 1 and is in [0, 1]; a yes/no question has the options "yes" and "no".
    """

    question: str
    answer: str
    probabilities: dict[str, float]

    @classmethod
    def likeliest(cls, question: str, probabilities: dict[str, float]) -> Decision:
        """For the most probable option; of several, the first."""
        return cls(question, max(probabilities, key=probabilities.__getitem__), probabilities)

    @property
    def probability(self) -> float:
        """Of the answer that was taken."""
        return self.probabilities[self.answer]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call node as it was performed: drawn or pinned by the intention, never by a real back end."""

    name: str
    arguments: dict[str, str]
    outcome: str
    returns: dict[str, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn.

    `node` is the graph position that the turn performs: for the agent the node it was told to say ("" when it was
    told none), for a tool the call node, for the client the node that they answered. `again`: the agent was told to
    ask once more. `decisions` are the ones taken on this turn's text. `seconds` is the time that the models took, and
    tokens are of prompt and completion, with what was asked for in vain.
    """

    role: Role
    text: str
    node: str = ""
    instruction: str = ""
    again: bool = False
    decisions: tuple[Decision, ...] = ()
    call: ToolCall | None = None
    repairs: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a dialogue came from: enough to ask for it again.

    `manager_calibration`: at which temperatures its probabilities are, as "choice 1.8, noul 2.4"; "" for its own.
    """

    workflow_id: str
    workflow_version: str
    persona_id: str
    persona_version: str
    intention_id: str
    prompts_version: str
    seed: int
    structured: bool
    client_model: str
    agent_model: str
    manager_model: str
    adapter_id: str = ""
    adapter_fingerprint: str = ""
    manager_calibration: str = ""
    preset: Preset = Preset.DUOLOGUE


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A finished dialogue. `id` is unique over all campaigns; see `dialogue_id`.

    `usage` is all that its models were used for, also what no turn bears.
    """

    id: str
    campaign_id: str
    round: int
    split: Split
    index: int
    turns: tuple[Turn, ...]
    end_reason: EndReason
    provenance: Provenance
    facts: dict[str, str] = field(default_factory=dict)
    usage: dict[Account, Usage] = field(default_factory=dict)

    def said_by(self, role: Role) -> list[str]:
        """The utterances of one role, in order."""
        return [turn.text for turn in self.turns if turn.role is role]

    @property
    def prompt_tokens(self) -> int:
        return sum(turn.prompt_tokens for turn in self.turns)

    @property
    def completion_tokens(self) -> int:
        return sum(turn.completion_tokens for turn in self.turns)

    @property
    def model_seconds(self) -> float:
        return sum(turn.seconds for turn in self.turns)


def dialogue_id(campaign_id: str, round_: int, split: Split, index: int) -> str:
    """The id of a dialogue, the same however often it is requested: uuid5(campaign, round, split, index)."""
    return str(uuid.uuid5(uuid.UUID(campaign_id), f"{round_}/{split.value}/{index}"))
