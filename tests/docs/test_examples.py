"""The examples keep their promises: what is held out stays unseen, also by the tiny model that comes along."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from businesses import random_workflow
from people import random_persona

from duologue.core.campaign import CampaignSpec
from duologue.core.dialogue import Preset
from duologue.core.fitting import MIN_EXAMPLES
from duologue.core.labelled import parse_labelled
from duologue.core.persona import load_personas
from duologue.core.presets import DEFAULTS
from duologue.core.source import parse_yaml, validate
from duologue.core.workflow import CallNode, SayNode, Workflow
from duologue.core.workflow_file import load_workflow
from tests.support import labelled_example

EXAMPLES = Path(__file__).parents[2] / "examples"
CAMPAIGNS = sorted((EXAMPLES / "campaigns").glob("*.yaml"))


def spec(file: Path) -> CampaignSpec:
    return validate(CampaignSpec, parse_yaml(file.read_text(), file.name))


def files(campaign: Path, names: tuple[str, ...]) -> set[Path]:
    return {(campaign.parent / name).resolve() for name in names}


def wordings(workflow: Workflow) -> Iterator[str]:
    for node in workflow.nodes.values():
        if not isinstance(node, CallNode):
            yield node.text
        if isinstance(node, SayNode):
            for reply in node.replies.values():
                yield from reply.examples
    for anytime in workflow.anytime.values():
        yield anytime.say
        yield from anytime.when


def sentences(text: str) -> Iterator[str]:
    """Of three words or more, by their words: shorter ones are in everybody's mouth."""
    for sentence in re.split(r"(?<=[.!?])\s+", text.lower()):
        found = re.findall(r"[\w{}']+", sentence)
        if len(found) >= 3:
            yield " ".join(found)


def all_sentences(workflows: Iterator[Workflow]) -> set[str]:
    return {sentence for workflow in workflows for text in wordings(workflow) for sentence in sentences(text)}


def loaded(names: set[Path]) -> Iterator[Workflow]:
    return (load_workflow(name.read_text(), name.name) for name in sorted(names))


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda file: file.stem)
def test_nothing_is_on_both_sides_of_a_campaign(campaign: Path) -> None:
    chosen = spec(campaign)
    assert not files(campaign, chosen.workflows.training) & files(campaign, chosen.workflows.held_out)
    ids = [
        {persona.id for name in side for persona in load_personas((campaign.parent / name).read_text(), name)}
        for side in (chosen.personas.training, chosen.personas.held_out)
    ]
    assert all(ids)
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("campaign", CAMPAIGNS, ids=lambda file: file.stem)
def test_the_tiny_model_never_read_a_sentence_of_a_held_out_workflow(campaign: Path) -> None:
    chosen = spec(campaign)
    held_out = all_sentences(loaded(files(campaign, chosen.workflows.held_out)))
    rng = random.Random(1)
    made_up = all_sentences(random_workflow(rng) for _ in range(1500))
    assert len(made_up) > 10_000
    assert held_out & made_up == set()
    shared = held_out & all_sentences(loaded(files(campaign, chosen.workflows.training)))
    assert all(len(sentence.split()) <= 4 for sentence in shared), shared


def test_the_campaign_of_the_paper_has_the_paper_s_figures_but_for_the_size_of_its_samples() -> None:
    chosen = spec(EXAMPLES / "campaigns/ulmer2024.yaml")
    assert chosen.preset is Preset.ULMER2024
    paper = CampaignSpec.model_validate(
        chosen.model_dump(include={"campaign", "preset", "workflows", "personas", "dialogues"})
    )
    assert chosen.evaluation.dialogues < paper.evaluation.dialogues
    for section in DEFAULTS[Preset.ULMER2024].keys() - {"evaluation"}:
        assert getattr(chosen, section) == getattr(paper, section)


def test_the_tiny_model_never_met_a_held_out_persona() -> None:
    held_out = load_personas((EXAMPLES / "personas/held_out.yaml").read_text(), "held_out.yaml")
    rng = random.Random(1)
    met = [random_persona(rng)[0] for _ in range(20_000)]
    assert not {persona.character for persona in held_out} & {persona.character for persona in met}
    told = {sentence for persona in met for sentence in sentences(persona.description)}
    assert not told & {sentence for persona in held_out for sentence in sentences(persona.description)}


def test_the_labelled_questions_are_worded_as_this_version_asks_them() -> None:
    assert labelled_example.LABELLED.read_text() == labelled_example.made(), labelled_example.__doc__


def test_the_labelled_questions_are_enough_to_calibrate_on() -> None:
    labelled = parse_labelled(labelled_example.LABELLED.read_text(), labelled_example.LABELLED.name)
    answered = [(line.questions[name].type, answer) for line in labelled for name, answer in line.answered.items()]
    for kind in ("choice", "noul"):
        assert sum(of == kind for of, _ in answered) >= 2 * MIN_EXAMPLES
    held_out = {
        file.resolve().stem for campaign in CAMPAIGNS for file in files(campaign, spec(campaign).workflows.held_out)
    }
    titles = {load_workflow((EXAMPLES / f"workflows/{name}.yaml").read_text()).agent.role for name in held_out}
    assert not any(title in line.state for line in labelled for title in titles)
