"""Temperatures change how sure an answer is, never which it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.temperature import HIGHEST, LOWEST, tempered

PROBABILITIES = st.lists(st.integers(1, 1000), min_size=2, max_size=8).map(
    lambda weights: {str(place): weight / sum(weights) for place, weight in enumerate(weights)}
)
TEMPERATURES = st.floats(LOWEST, HIGHEST)


def test_a_temperature_of_two_takes_the_square_root_and_of_a_half_the_square() -> None:
    assert tempered({"yes": 0.8, "no": 0.2}, 2) == pytest.approx({"yes": 2 / 3, "no": 1 / 3})
    assert tempered({"yes": 0.8, "no": 0.2}, 0.5) == pytest.approx({"yes": 0.64 / 0.68, "no": 0.04 / 0.68})


def test_a_temperature_of_one_changes_nothing() -> None:
    assert tempered({"a": 0.7, "b": 0.3, "c": 0.0}, 1.0) == {"a": 0.7, "b": 0.3, "c": 0.0}


def test_what_was_impossible_becomes_possible_when_confidence_is_taken_away() -> None:
    assert tempered({"yes": 1.0, "no": 0.0}, 6) == pytest.approx({"yes": 10 / 11, "no": 1 / 11})


@given(PROBABILITIES, TEMPERATURES)
def test_probabilities_stay_probabilities_in_the_same_order(
    probabilities: dict[str, float], temperature: float
) -> None:
    changed = tempered(probabilities, temperature)
    assert list(changed) == list(probabilities)
    assert sum(changed.values()) == pytest.approx(1)
    by_likelihood = sorted(probabilities, key=lambda option: (probabilities[option], changed[option]))
    assert [changed[option] for option in by_likelihood] == sorted(changed.values())


@given(PROBABILITIES, st.floats(1, HIGHEST))
def test_above_one_no_answer_gets_surer(probabilities: dict[str, float], temperature: float) -> None:
    assert max(tempered(probabilities, temperature).values()) <= max(probabilities.values()) + 1e-9
