"""Typed questions with the answers that people gave: what a model's probabilities are calibrated on.

JSON lines. One line is one state, its questions as the product asks them, and the right answers by the questions'
names: an option, "yes" or "no", or null where nobody has answered or there is no right answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from duologue.core.dialogue import Dialogue, Preset, Role
from duologue.core.problems import InvalidInput, Problem, did_you_mean
from duologue.core.prompts import PROMPTS_VERSION, Question, manager_questions, manager_state, options_of
from duologue.core.scores import Utterance
from duologue.core.source import parse_json_lines
from duologue.core.workflow import SayNode, Workflow

_SHAPE = (
    f'One state a line: {{"prompts": "{PROMPTS_VERSION}", "state": "Client: Hello.", '
    '"questions": {"over": {"type": "noul", "instructions": "Is it over?"}}, "answers": {"over": "no"}}. '
    "`duologue dialogue questions` writes such lines."
)
# What one request takes: see models.labels and /v1/systemone.
_MOST_QUESTIONS, _MOST_OPTIONS = 64, 26


class _YesNo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["noul"]
    instructions: str


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["choice"]
    instructions: str
    criteria: dict[str, str] = Field(min_length=2, max_length=_MOST_OPTIONS)


class Labelled(BaseModel):
    """Questions about one state, worded as by version `prompts`. `dialogue`: where they come from, if anybody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialogue: str = ""
    prompts: str
    state: str = Field(min_length=1)
    questions: dict[str, Annotated[_Choice | _YesNo, Field(discriminator="type")]] = Field(
        min_length=1, max_length=_MOST_QUESTIONS
    )
    answers: dict[str, str | None]

    @property
    def asked(self) -> dict[str, Question]:
        """The questions as a model is asked them."""
        return {name: cast("Question", question.model_dump()) for name, question in self.questions.items()}

    @property
    def answered(self) -> dict[str, str]:
        """The answers that somebody gave."""
        return {name: answer for name, answer in self.answers.items() if answer is not None}


def parse_labelled(text: str, file: str) -> list[Labelled]:
    """The lines of a file. Raises `InvalidInput`, also for a file without any answer."""
    lines = parse_json_lines(Labelled, text, file, _SHAPE)
    problems = [problem for number, labelled in lines for problem in _mistakes(labelled, file, number)]
    if not problems and not any(labelled.answered for _, labelled in lines):
        problems = [Problem(file, 0, "no question has an answer", _SHAPE)]
    if problems:
        raise InvalidInput(problems)
    return [labelled for _, labelled in lines]


def _mistakes(labelled: Labelled, file: str, line: int) -> Iterator[Problem]:
    if labelled.prompts != PROMPTS_VERSION:
        yield Problem(
            file,
            line,
            f'prompts is "{labelled.prompts}": this version words its questions otherwise',
            f'Write them anew with `duologue dialogue questions`, which asks by prompts "{PROMPTS_VERSION}".',
        )
    for name, answer in labelled.answered.items():
        if name not in labelled.questions:
            fix = did_you_mean(name, list(labelled.questions))
            yield Problem(file, line, f"answers.{name} answers no question of the line", fix)
        elif answer not in (options := options_of(labelled.asked[name])):
            yield Problem(
                file, line, f'answers.{name} is "{answer}", which is no option', did_you_mean(answer, options)
            )


def questions_to_label(dialogue: Dialogue, workflow: Workflow) -> Iterator[Labelled]:
    """What the manager was asked about each reply of the client, by today's wording, without its answers.

    Nothing is yielded of a dialogue of another preset, whose manager is asked no typed questions.
    """
    if dialogue.provenance.preset is not Preset.DUOLOGUE:
        return
    intention = next((each for each in workflow.intentions if each.id == dialogue.provenance.intention_id), None)
    facts = dict(intention.facts) if intention is not None else {}
    history: list[Utterance] = []
    for turn in dialogue.turns:
        history.append(Utterance(turn.role, turn.text))
        if turn.call is not None:
            facts |= turn.call.returns
        node = workflow.nodes.get(turn.node)
        if turn.role is Role.CLIENT and isinstance(node, SayNode):
            yield to_label(manager_state(history), manager_questions(workflow, node, facts), dialogue.id)


def to_label(state: str, questions: dict[str, Question], dialogue: str = "") -> Labelled:
    """A line with all answers open."""
    answers = dict.fromkeys(questions)
    return Labelled.model_validate(
        {"dialogue": dialogue, "prompts": PROMPTS_VERSION, "state": state, "questions": questions, "answers": answers}
    )


def write_lines(labelled: Iterable[Labelled]) -> str:
    """The text of a file."""
    return "".join(json.dumps(each.model_dump(exclude_defaults=True), ensure_ascii=False) + "\n" for each in labelled)
