"""A temperature is found again where it is known, and is not made up where there is too little to find it by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.core.fitting import FOLDS, MIN_EXAMPLES, fit, fit_temperature, held_out
from duologue.core.judgements import Judgement, Judgements, QuestionType, ece, log_loss
from duologue.core.temperature import HIGHEST, LOWEST


def drawn(count: int, temperature: float, options: int = 2, seed: int = 0, per_state: int = 1) -> Judgements:
    """Answers of a model that would be as right as sure at this temperature: its probabilities are ** temperature."""
    rng = np.random.default_rng(seed)
    judgements = []
    for index in range(count):
        honest = rng.dirichlet(np.full(options, 0.7))
        right = int(rng.choice(options, p=honest))
        stated = np.maximum(honest, 1e-4) ** temperature
        judgements.append(Judgement(str(index // per_state), tuple(stated / stated.sum()), right))
    question: QuestionType = "noul" if options == 2 else "choice"
    return Judgements.of(question, judgements)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("options", [2, 4])
def test_a_temperature_that_is_known_is_found_again(temperature: float, options: int) -> None:
    assert fit_temperature(drawn(4000, temperature, options)) == pytest.approx(temperature, rel=0.1)


def test_after_it_the_model_is_as_right_as_sure_on_answers_that_were_not_fitted_to() -> None:
    found = fit(drawn(1500, 2.0, options=3))
    assert found.after is not None
    assert ece(found.before) > 0.1
    assert ece(found.after) < 0.05
    assert log_loss(found.after) < log_loss(found.before)
    assert (found.problem, found.remark) == ("", "")


@st.composite
def _judgements(draw: st.DrawFn) -> Judgements:
    rows = draw(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=40))
    return Judgements.of("noul", [Judgement(str(i), (p / 100, 1 - p / 100), int(no)) for i, (p, no) in enumerate(rows)])


@settings(deadline=None)
@given(_judgements())
def test_a_temperature_never_makes_the_answers_that_it_was_fitted_to_less_likely(judgements: Judgements) -> None:
    temperature = fit_temperature(judgements)
    assert LOWEST <= temperature <= HIGHEST
    assert log_loss(judgements.tempered(temperature)) <= log_loss(judgements)


def test_no_answer_is_at_a_temperature_that_it_or_its_state_was_fitted_to() -> None:
    """One state is as wrong as can be: only in the fold without it does the temperature stay low."""
    honest = [Judgement(str(index), (0.9, 0.1), int(index % 10 == 0)) for index in range(200)]
    odd = [Judgement("odd", (0.9999, 0.0001), 1) for _ in range(20)]
    judgements = Judgements.of("noul", [*honest, *odd])
    after = held_out(judgements)
    confidence_of_odd = set(np.round(after.confidence[200:], 9))
    assert len(confidence_of_odd) == 1
    assert min(confidence_of_odd) > fit_all_confidence(judgements)
    assert len(set(np.round(after.confidence[:200], 9))) <= FOLDS


def fit_all_confidence(judgements: Judgements) -> float:
    return float(judgements.tempered(fit_temperature(judgements)).confidence[200])


def test_the_same_answers_give_the_same_fit_in_any_order() -> None:
    judgements = drawn(300, 2.0)
    rows = np.random.default_rng(1).permutation(300)
    assert fit_temperature(judgements) == fit_temperature(judgements.at(rows))
    assert fit(judgements).temperature == fit(judgements).temperature


def yes_no(yes: int, no: int, wrong: int) -> Judgements:
    rows = [Judgement(f"y{i}", (0.8, 0.2) if i >= wrong else (0.2, 0.8), 0) for i in range(yes)]
    return Judgements.of("noul", [*rows, *(Judgement(f"n{i}", (0.2, 0.8), 1) for i in range(no))])


@pytest.mark.parametrize(
    ("judgements", "said"),
    [
        (yes_no(0, 0, 0), "0 questions have an answer, it takes 50: label 50 more"),
        (yes_no(20, 22, 6), "42 questions have an answer, it takes 50: label 8 more"),
        (drawn(90, 1.0, per_state=30), "they are about 3 states, it takes 10: label questions about others"),
        (yes_no(60, 4, 6), '4 are answered "no", it takes 10: label 6 more of these'),
        (yes_no(3, 60, 3), '3 are answered "yes", it takes 10: label 7 more of these'),
        (
            Judgements.of("choice", [Judgement(str(i), (0.5, 0.3, 0.2), int(i < 2)) for i in range(60)]),
            "the right option is number 1 in all but 2: label 8 more where it is not",
        ),
        (
            yes_no(40, 40, 2),
            "the model got 2 of 80 wrong, and it takes 5 to see how sure it is when it errs: "
            "label more, or harder ones",
        ),
    ],
)
def test_too_little_is_said_with_what_it_would_take(judgements: Judgements, said: str) -> None:
    found = fit(judgements)
    assert (found.problem, found.temperature, found.after) == (said, None, None)


def test_with_exactly_enough_there_is_a_temperature() -> None:
    assert fit(yes_no(40, MIN_EXAMPLES - 40, 5)).temperature is not None


def test_a_temperature_that_does_not_help_is_said_to() -> None:
    found = fit(drawn(60, 1.0, seed=3))
    assert found.temperature is not None
    assert "does not help" in found.remark


def test_a_model_that_is_mostly_wrong_gets_the_highest_temperature_and_is_called_so() -> None:
    found = fit(yes_no(60, 20, 60))
    assert (found.temperature, found.remark) == (HIGHEST, "the temperature is the highest that is tried")
