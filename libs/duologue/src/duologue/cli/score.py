"""`duologue score`: the scores of dialogues in a file, without any service."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, field_validator

from duologue.cli.files import read_text, read_workflow
from duologue.cli.output import AsJson, console, number, print_json, print_table
from duologue.core.dialogue import Role
from duologue.core.scores import Scores, Utterance, score_dialogue
from duologue.core.source import parse_json_lines
from duologue.core.text import diversity

_FIELDS = ("words", "ngrams", "subgoals_absolute", "subgoals_relative", "subgoals_branch", "ended", "success")
# Diversity compares every pair; beyond this many dialogues a seeded sample stands for all.
_DIVERSITY_DIALOGUES = 2000
_SHAPE = (
    'One dialogue a line: {"id": "1", "turns": [{"role": "client", "text": "Hello."}]}. '
    "The client is the user, the agent the assistant; what was looked up is the tool's."
)


class _Turn(BaseModel):
    # Data sets carry labels and times beside the text; they are no mistake.
    model_config = ConfigDict(extra="ignore")

    role: Literal["client", "agent", "tool"]
    text: str


class _Dialogue(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str | int
    turns: list[_Turn]
    facts: dict[str, str] = Field(default_factory=dict)

    @field_validator("id", mode="before")
    @classmethod
    def _id(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError("should be text or a whole number")
        return value

    @property
    def utterances(self) -> list[Utterance]:
        return [Utterance(Role(turn.role), turn.text) for turn in self.turns]


def score(
    file: Annotated[Path, typer.Argument(help="JSON lines of {id, turns: [{role: client|agent|tool, text}]}.")],
    workflow: Annotated[Path, typer.Option("--workflow", "-w", help="The workflow that the agent followed.")],
    as_json: AsJson = False,
) -> None:
    """Score dialogues against a workflow, offline.

    Example: duologue score dialogues.jsonl --workflow examples/workflows/bike_repair.yaml --json
    """
    graph = read_workflow(workflow)
    dialogues = [dialogue for _, dialogue in parse_json_lines(_Dialogue, read_text(file), str(file), _SHAPE)]
    scored = [(dialogue, score_dialogue(dialogue.utterances, graph, dialogue.facts)) for dialogue in dialogues]
    if as_json:
        print_json(_document(scored))
    else:
        _print(scored)


def _document(scored: list[tuple[_Dialogue, Scores]]) -> dict[str, Any]:
    return {
        "dialogues": [
            {"id": dialogue.id, **{name: getattr(scores, name) for name in _FIELDS}, "nodes": list(scores.nodes)}
            | {"repeats": scores.repeats, "role_leaks": scores.role_leaks}
            for dialogue, scores in scored
        ],
        "count": len(scored),
        "diversity": _diversity([dialogue for dialogue, _ in scored]),
        "means": _means([scores for _, scores in scored]),
    }


def _diversity(dialogues: list[_Dialogue]) -> float:
    """Over all pairs of dialogues; of client and agent, what tools say is no talk."""
    if len(dialogues) > _DIVERSITY_DIALOGUES:
        dialogues = random.Random(0).sample(dialogues, _DIVERSITY_DIALOGUES)
    return diversity([" ".join(turn.text for turn in item.turns if turn.role != "tool") for item in dialogues])


def _means(scores: list[Scores]) -> dict[str, float]:
    return {name: fmean(float(getattr(item, name)) for item in scores) for name in _FIELDS} if scores else {}


def _print(scored: list[tuple[_Dialogue, Scores]]) -> None:
    fields = [name for name in _FIELDS if name != "subgoals_branch"]  # of all of them the one least asked for
    print_table(
        "Scores",
        ("id", *(name.replace("_", " ") for name in fields), "nodes"),
        [
            (
                str(dialogue.id),
                *(number(float(getattr(scores, name))) for name in fields),
                " ".join(node or "-" for node in scores.nodes),
            )
            for dialogue, scores in scored
        ],
    )
    means = ", ".join(f"{name} {number(value)}" for name, value in _means([item for _, item in scored]).items())
    console.print(f"{len(scored)} dialogues, diversity {number(_diversity([item for item, _ in scored]))}")
    if means:
        console.print(f"means: {means}")
