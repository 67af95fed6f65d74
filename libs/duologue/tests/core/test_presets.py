"""What a preset sets in a campaign file, and what stays the file's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.campaign import CampaignSpec, Decoding, RolePlay, TopFilter
from duologue.core.dialogue import Preset
from duologue.core.presets import DEFAULTS, PROMPTS, with_defaults

FILE: dict[str, Any] = {
    "campaign": "first",
    "workflows": {"training": ["a.yaml"], "held_out": ["b.yaml"]},
    "personas": {"training": ["c.yaml"], "held_out": ["d.yaml"]},
    "dialogues": 10,
}
PAPER = FILE | {"preset": "ulmer2024"}


def test_the_preset_of_the_paper_sets_the_figures_of_the_paper() -> None:
    spec = CampaignSpec.model_validate(PAPER)
    assert spec.preset is Preset.ULMER2024
    assert spec.decoding == Decoding(temperature=0.8, top_p=0.95, top_k=50, max_tokens=100)
    assert spec.role_play.max_turns == 8
    assert spec.filters == (TopFilter(kind="top", metric="subgoals_relative", share=0.05),)
    training = spec.training
    assert (training.rank, training.learning_rate, training.weight_decay) == (64, 5e-4, 0.01)
    assert (training.batch_size, training.epochs, training.accumulate) == (4, 1, False)
    assert (spec.evaluation.dialogues, spec.evaluation.structured) == (100, True)


def test_no_dialogue_of_the_paper_s_is_ever_derailed() -> None:
    spec = CampaignSpec.model_validate(PAPER | {"role_play": {"max_turns": 100}})
    assert spec.role_play.max_turns is not None
    assert spec.role_play.recoveries >= spec.role_play.max_turns


def test_what_the_file_says_holds_field_by_field_and_a_list_as_a_whole() -> None:
    spec = CampaignSpec.model_validate(
        PAPER
        | {"decoding": {"max_tokens": 40}, "training": {"accumulate": True, "warmup_steps": 3}}
        | {"filters": [{"kind": "ended"}], "role_play": {"max_turns": None}}
    )
    assert spec.decoding == Decoding(temperature=0.8, top_p=0.95, top_k=50, max_tokens=40)
    assert (spec.training.accumulate, spec.training.warmup_steps, spec.training.min_kept) == (True, 3, 1)
    assert [rule.kind for rule in spec.filters] == ["ended"]
    assert spec.role_play == RolePlay(max_turns=None, recoveries=100)
    assert CampaignSpec.model_validate(PAPER | {"filters": []}).filters == ()


def test_a_spec_of_a_preset_comes_back_from_its_json_as_it_was() -> None:
    spec = CampaignSpec.model_validate(PAPER | {"decoding": {"top_k": 0}})
    assert CampaignSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("preset", [{}, {"preset": "duologue"}])
def test_duologue_s_own_preset_sets_nothing(preset: dict[str, str]) -> None:
    spec = CampaignSpec.model_validate(FILE | preset)
    assert spec.preset is Preset.DUOLOGUE
    assert spec.model_dump(exclude_defaults=True) == CampaignSpec.model_validate(FILE).model_dump(exclude_defaults=True)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
SECTIONS = st.sampled_from([*DEFAULTS[Preset.ULMER2024], "preset", "seed"])


@given(st.dictionaries(SECTIONS, JUNK), st.sampled_from(["ulmer2024", "duologue", "ulmer2042", ["ulmer2024"], None]))
def test_nothing_that_a_file_says_is_lost_or_mended(fields: dict[str, Any], preset: object) -> None:
    given = {**fields, "preset": preset}
    merged = with_defaults(given)
    for name, value in given.items():
        if isinstance(value, dict):
            assert value.items() <= merged[name].items()
        else:
            assert merged[name] == value
    if preset != "ulmer2024":
        assert merged == given


def test_every_preset_has_prompts() -> None:
    assert set(PROMPTS) == set(Preset)
