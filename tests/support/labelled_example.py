"""Makes examples/calibration/questions.jsonl from the replies beside it: `python -m tests.support.labelled_example`.

Needed after a change of the prompts: the replies and what they mean stay, the questions are worded anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from duologue.core.dialogue import Role
from duologue.core.labelled import Labelled, to_label, write_lines
from duologue.core.persona import load_personas
from duologue.core.prompts import (
    NO_ASIDE,
    consistency_question,
    consistency_state,
    manager_questions,
    manager_state,
)
from duologue.core.scores import Utterance
from duologue.core.workflow import SayNode, Workflow, fill
from duologue.core.workflow_file import load_workflow

EXAMPLES = Path(__file__).parents[2] / "examples"
LABELLED = EXAMPLES / "calibration/questions.jsonl"
_YES_NO = {True: "yes", False: "no"}


def made() -> str:
    """What the file should hold."""
    source = yaml.safe_load((EXAMPLES / "calibration/replies.yaml").read_text())
    return write_lines([*_of_replies(source["replies"]), *_of_characters(source["characters"])])


def _of_replies(workflows: list[dict[str, Any]]) -> Iterator[Labelled]:
    for each in workflows:
        workflow = _workflow(each["workflow"])
        (intention,) = (known for known in workflow.intentions if known.id == each["intention"])
        facts = {**intention.facts, **each["facts"]}
        for name, replies in each["nodes"].items():
            node = workflow.nodes[name]
            assert isinstance(node, SayNode), name
            for reply in replies:
                yield _of_reply(reply, workflow, node, facts)


def _of_reply(reply: dict[str, Any], workflow: Workflow, node: SayNode, facts: dict[str, str]) -> Labelled:
    said = [Utterance(Role.AGENT, fill(node.say, facts)), Utterance(Role.CLIENT, reply["says"])]
    line = to_label(manager_state(said), manager_questions(workflow, node, facts))
    applies = "reply" in reply
    answers: dict[str, str | None] = {
        "reply": reply.get("reply"),
        "applies": _YES_NO[applies],
        "aside": None if applies else reply.get("aside", NO_ASIDE),
        "ended": _YES_NO[reply.get("ended", False)],
    }
    return line.model_copy(update={"answers": {name: answers[name] for name in line.questions}})


def _of_characters(characters: list[dict[str, Any]]) -> Iterator[Labelled]:
    personas = {each.id: each for each in load_personas((EXAMPLES / "personas/training.yaml").read_text())}
    for each in characters:
        if "workflow" in each:
            agent = _workflow(each["workflow"]).agent
            state = consistency_state(agent.role, agent.persona)
        else:
            persona = personas[each["persona"]]
            state = consistency_state(persona.character, persona.description)
        right = dict.fromkeys(each["fits"], "yes") | dict.fromkeys(each["does_not"], "no")
        questions = {str(index): consistency_question(text) for index, text in enumerate(right)}
        answers = dict(zip(questions, right.values(), strict=True))
        yield to_label(state, questions).model_copy(update={"answers": answers})


def _workflow(name: str) -> Workflow:
    return load_workflow((EXAMPLES / f"workflows/{name}.yaml").read_text())


if __name__ == "__main__":
    LABELLED.write_text(made())
