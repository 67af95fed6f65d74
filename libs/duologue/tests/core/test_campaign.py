"""Campaign files and what they name."""

import re

import pytest

from duologue.core.campaign import Campaign, CampaignSpec, load_campaign
from duologue.core.problems import InvalidInput

SPEC = """\
campaign: first
workflows:
  training: [a.yaml, b.yaml]
  held_out: [c.yaml]
personas:
  training: [people.yaml]
  held_out: [strangers.yaml]
dialogues: 10
"""


def workflow(name: str) -> str:
    return f"""\
workflow: {name}
title: {name}
agent: {{role: a clerk, persona: I am calm.}}
intentions: [{{id: ask, goal: ask}}]
start: hello
nodes:
  hello:
    say: Hello?
    replies: {{any: {{to: bye, default: true}}}}
  bye: {{end: Bye.}}
"""


def persona(name: str) -> str:
    return f"personas:\n  - id: {name}\n    character: a person\n    description: I am {name}.\n"


FILES = {
    "a.yaml": workflow("a"),
    "b.yaml": workflow("b"),
    "c.yaml": workflow("c"),
    "people.yaml": persona("ann") + persona("bob").removeprefix("personas:\n"),
    "strangers.yaml": persona("eve"),
}


def loaded(text: str = SPEC, **files: str) -> Campaign:
    """The campaign of `text`; `files` replace those of FILES, by name without the ending."""
    contents = {**FILES, **{f"{name}.yaml": content for name, content in files.items()}}

    def read(file: str) -> str:
        if file == "binary.yaml":
            return b"\xff\xfe".decode()
        if file not in contents:
            raise FileNotFoundError(2, "No such file or directory")
        return contents[file]

    return load_campaign(text, "first.yaml", read)


def problems_of(text: str = SPEC, **files: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        loaded(text, **files)
    return list(map(str, caught.value.problems))


def test_a_campaign_has_what_its_spec_names_in_order() -> None:
    campaign = loaded()
    assert [part.id for part in campaign.training_workflows] == ["a", "b"]
    assert [part.id for part in campaign.held_out_workflows] == ["c"]
    assert [part.id for part in campaign.training_personas] == ["ann", "bob"]
    assert [part.id for part in campaign.held_out_personas] == ["eve"]
    assert (campaign.spec.campaign, campaign.spec.dialogues, campaign.spec.rounds) == ("first", 10, 1)


def test_a_spec_comes_back_from_its_json_as_it_was() -> None:
    spec = loaded(SPEC + "filters: [{kind: ended}, {kind: top, share: 0.05}]\n").spec
    assert CampaignSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_version_is_that_of_everything_that_is_named() -> None:
    version = loaded().version
    assert loaded("# a comment\n" + SPEC, a="# a comment\n" + FILES["a.yaml"]).version == version
    others = [
        loaded(SPEC.replace("dialogues: 10", "dialogues: 11")),
        loaded(a=FILES["a.yaml"].replace("Hello?", "Hello!")),
        loaded(c=FILES["c.yaml"].replace("Hello?", "Hello!")),
        loaded(people=FILES["people.yaml"].replace("I am bob.", "I am Bob.")),
        loaded(strangers=FILES["strangers.yaml"].replace("I am eve.", "I am Eve.")),
    ]
    assert len({version, *(campaign.version for campaign in others)}) == 6


# What is on both sides


def test_a_workflow_in_both_splits_is_refused() -> None:
    assert problems_of(SPEC.replace("[c.yaml]", "[c.yaml, b.yaml, a.yaml]")) == [
        f'first.yaml:4: workflow "{name}" is in both splits\n'
        "    A held-out side that was trained on measures nothing: list it on one side only."
        for name in "ab"
    ]


def test_a_workflow_with_the_id_of_one_of_the_other_side_is_refused() -> None:
    (said,) = problems_of(c=workflow("a"))
    assert said.startswith('first.yaml:4: workflow "a" is in both splits')


def test_a_persona_in_both_splits_is_refused() -> None:
    (said,) = problems_of(strangers=persona("eve") + persona("bob").removeprefix("personas:\n"))
    assert said.startswith('first.yaml:7: persona "bob" is in both splits')


def test_what_is_listed_twice_on_one_side_is_refused() -> None:
    assert problems_of(SPEC.replace("[a.yaml, b.yaml]", "[a.yaml, a.yaml]")) == [
        'first.yaml:3: workflow "a" is listed twice\n    Remove one.'
    ]
    assert problems_of(SPEC.replace("[strangers.yaml]", "[strangers.yaml, strangers.yaml]")) == [
        'first.yaml:7: persona "eve" of strangers.yaml is listed twice\n    Remove one.'
    ]


# Files


def test_files_that_cannot_be_read_are_named_with_the_line_that_names_them() -> None:
    text = SPEC.replace("[a.yaml, b.yaml]", "\n    - a.yaml\n    - missing.yaml").replace(
        "[people.yaml]", "[binary.yaml]"
    )
    assert problems_of(text) == [
        "first.yaml:5: can't read missing.yaml: No such file or directory\n"
        "    Paths are relative to the folder of first.yaml.",
        "first.yaml:8: can't read binary.yaml: not a text file\n    Paths are relative to the folder of first.yaml.",
    ]


def test_the_mistakes_of_all_files_are_named_at_once_each_with_its_own_file() -> None:
    said = problems_of(
        SPEC.replace("[c.yaml]", "[missing.yaml]"),
        a=FILES["a.yaml"].replace("to: bye", "to: by"),
        people=FILES["people.yaml"].replace("id: bob", "id: ann"),
        strangers="personas: []\n",
    )
    assert [line.split(": ")[0] for line in said] == ["a.yaml:9", "first.yaml:4", "people.yaml:5", "strangers.yaml:1"]


def test_without_a_turn_limit_the_longest_path_has_room() -> None:
    asks = "".join(
        f"  ask{i}: {{say: Ask {i}, replies: {{any: {{to: ask{i + 1}, default: true}}}}}}\n" for i in range(9)
    )
    long = workflow("b").replace("{to: bye, default", "{to: ask0, default") + asks + "  ask9: {end: Done.}\n"
    campaign = loaded(b=long.replace("  bye: {end: Bye.}\n", ""))
    short_one, long_one = campaign.training_workflows
    assert campaign.spec.role_play.most_turns(short_one) == 8
    assert campaign.spec.role_play.most_turns(long_one) == 11 + 2
    assert loaded(SPEC + "role_play: {max_turns: 3}\n").spec.role_play.most_turns(short_one) == 3


def test_a_turn_limit_that_no_way_through_a_workflow_keeps_to_is_refused() -> None:
    above = SPEC.count("\n")
    found = problems_of(SPEC + "role_play:\n  max_turns: 1\n")
    assert found == [
        f'first.yaml:{above + 2}: role_play.max_turns is 1; the shortest way through workflow "{name}" has 2\n'
        "    Raise it, or no dialogue of that workflow can end."
        for name in ("a", "b", "c")
    ]


# Fields


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dialoges: 10", "dialoges is not a known field\n    Did you mean \"dialogues\"?"),
        ("rounds: 0", "rounds: Input should be greater than or equal to 1 (got 0)"),
        ("rounds: many", "rounds: Input should be a valid integer"),
        ("rounds: 1.5", "rounds: Input should be a valid integer, got a number with a fractional part (got 1.5)"),
        ("rounds:", "rounds: Input should be a valid integer"),
        ("seed: -1", "seed: Input should be greater than or equal to 0 (got -1)"),
        ("concurrency: 0", "concurrency: Input should be greater than or equal to 1 (got 0)"),
        ("models: {client: 5}", "models.client: should be text: put it in quotes (got 5)"),
        ("models: {cliente: x}", "models.cliente is not a known field\n    Did you mean \"client\"?"),
        ("decoding: {temperature: 3}", "decoding.temperature: Input should be less than or equal to 2 (got 3)"),
        ("decoding: {temperature: .nan}", "decoding.temperature: "),
        ("preset: ulmer2025", "preset: Input should be 'duologue' or 'ulmer2024' (got 'ulmer2025')"),
        ("decoding: {top_k: -1}", "decoding.top_k: Input should be greater than or equal to 0 (got -1)"),
        ("decoding: {top_p: 0}", "decoding.top_p: Input should be greater than 0 (got 0)"),
        ("decoding: {max_tokens: 0}", "decoding.max_tokens: Input should be greater than or equal to 1 (got 0)"),
        ("role_play: {max_turns: 0}", "role_play.max_turns: Input should be greater than or equal to 1 (got 0)"),
        ("role_play: {recoveries: -1}", "role_play.recoveries: Input should be greater than or equal to 0 (got -1)"),
        ("filters: [{kind: topp, share: 0.5}]", "filters.0: 'kind' is 'topp', which is none of"),
        ("filters: [{kind: top, share: 0}]", "filters.0.share: Input should be greater than 0 (got 0)"),
        ("filters: [{kind: top, share: 1.1}]", "filters.0.share: Input should be less than or equal to 1 (got 1.1)"),
        ("filters: [{kind: random}]", "filters.0.share is missing\n    Add `share:` here."),
        ("filters: [{kind: at_least, metric: wordz, value: 1}]", "filters.0.metric: should be 'subgoals_"),
        ("filters: [{kind: at_most, metric: words, value: few}]", "filters.0.value: Input should be a valid number"),
        ("filters: [{kind: ended, share: 1}]", "filters.0.share is not a known field"),
        ("filters: [ended]", "filters.0: "),
        ("training: {rank: 0}", "training.rank: Input should be greater than or equal to 1 (got 0)"),
        ("training: {learning_rate: 2}", "training.learning_rate: Input should be less than or equal to 1 (got 2)"),
        ("training: {accumulate: maybe}", "training.accumulate: Input should be a valid boolean"),
        ("training: {epoch: 1}", "training.epoch is not a known field\n    Did you mean \"epochs\"?"),
        ("evaluation: {dialogues: 1}", "evaluation.dialogues: Input should be greater than or equal to 2 (got 1)"),
        ("gate: {confidence: 1}", "gate.confidence: Input should be less than 1 (got 1)"),
        ("gate: {guards: [wordz]}", "gate.guards.0: should be 'subgoals_"),
        ("gate: {metrics: words}", "gate.metrics is not a known field\n    Did you mean \"metric\"?"),
        ("budget: {tokens: 0}", "budget.tokens: Input should be greater than or equal to 1 (got 0)"),
        ("budget: {seconds: 0}", "budget.seconds: Input should be greater than 0 (got 0)"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_line(line: str, said: str) -> None:
    above = SPEC.count("\n")
    (problem,) = problems_of(SPEC + "# beside\n" + line + "\n")
    assert problem.startswith(f"first.yaml:{above + 2}: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("decoding: {top_k: -1}", "decoding.top_k: Input should be greater than or equal to 0 (got -1)"),
        ("decoding: paper", "decoding: should be a mapping of fields (got 'paper')"),
        ("filters: top", "filters: should be a list (got 'top')"),
        ("training:", "training: should be a mapping of fields"),
    ],
)
def test_beside_a_preset_too_a_wrong_field_is_named_with_its_line(line: str, said: str) -> None:
    above = SPEC.count("\n")
    (problem,) = problems_of(SPEC + "preset: ulmer2024\n" + line + "\n")
    assert problem.startswith(f"first.yaml:{above + 2}: {said}")


@pytest.mark.parametrize("field", ["campaign", "workflows", "personas", "dialogues"])
def test_a_field_that_is_needed_is_named(field: str) -> None:
    parts = re.split(r"^(?=\w)", SPEC, flags=re.MULTILINE)
    (problem,) = problems_of("".join(part for part in parts if not part.startswith(field)))
    assert problem == f"first.yaml:1: {field} is missing\n    Add `{field}:` here."


@pytest.mark.parametrize(
    "line",
    [
        "filters: [{kind: at_least, metric: words, value: .nan}]",
        "filters: [{kind: at_most, metric: words, value: .inf}]",
        "gate: {min_gain: .inf}",
        "budget: {seconds: .inf}",
    ],
)
def test_a_figure_that_is_no_number_is_refused(line: str) -> None:
    problems_of(SPEC + line + "\n")
