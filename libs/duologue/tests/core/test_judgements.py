"""Figures of a model's answers against people's: by hand where they can be, by what must hold everywhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.judgements import (
    METRICS,
    Figure,
    Judgement,
    Judgements,
    accuracy,
    auroc,
    balanced_accuracy,
    ece,
    figures,
    log_loss,
    mcc,
    reliability,
)
from duologue.core.temperature import tempered


def yes_no(*answers: tuple[float, bool]) -> Judgements:
    """Of P(yes) and whether yes is right; each about a state of its own."""
    return Judgements.of(
        "noul", [Judgement(str(index), (p, 1 - p), int(not is_yes)) for index, (p, is_yes) in enumerate(answers)]
    )


def choices(*answers: tuple[Sequence[float], int]) -> Judgements:
    return Judgements.of(
        "choice", [Judgement(str(index), tuple(each), right) for index, (each, right) in enumerate(answers)]
    )


@st.composite
def _judgement(draw: st.DrawFn) -> Judgement:
    weights = draw(st.lists(st.integers(1, 50), min_size=2, max_size=5))
    probabilities = tuple(weight / sum(weights) for weight in weights)
    return Judgement(str(draw(st.integers(0, 20))), probabilities, draw(st.integers(0, len(weights) - 1)))


CHOICES = st.lists(_judgement(), min_size=1, max_size=30).map(lambda each: Judgements.of("choice", each))
YES_NOS = st.lists(st.tuples(st.integers(0, 100).map(lambda p: p / 100), st.booleans()), min_size=1, max_size=40)

# Three of four yes found, one of two no: TP 3, FN 1, TN 1, FP 1.
MIXED = yes_no((0.9, True), (0.8, True), (0.7, True), (0.4, True), (0.3, False), (0.6, False))


def test_figures_of_a_confusion_of_yes_and_no_are_those_by_hand() -> None:
    assert accuracy(MIXED) == pytest.approx(4 / 6)
    assert balanced_accuracy(MIXED) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert mcc(MIXED) == pytest.approx((3 * 1 - 1 * 1) / math.sqrt((3 + 1) * (3 + 1) * (1 + 1) * (1 + 1)))
    # of the 4 * 2 pairs of a yes and a no, only 0.4 stands below 0.6
    assert auroc(MIXED) == pytest.approx(7 / 8)
    assert log_loss(MIXED) == pytest.approx(-math.log(0.9 * 0.8 * 0.7 * 0.4 * 0.7 * 0.4) / 6)


def test_a_tie_of_yes_and_no_is_taken_for_yes_as_the_manager_takes_it() -> None:
    assert accuracy(yes_no((0.5, True))) == 1
    assert accuracy(yes_no((0.5, False))) == 0


def test_equal_probabilities_of_yes_and_no_count_a_half_in_auroc() -> None:
    assert auroc(yes_no((0.6, True), (0.6, False))) == 0.5


def test_always_the_first_option_is_accurate_by_luck_but_neither_balanced_nor_correlated() -> None:
    always_first = choices(*[((0.9, 0.1), 0)] * 9, ((0.9, 0.1), 1))
    assert accuracy(always_first) == 0.9
    assert balanced_accuracy(always_first) == 0.5
    assert mcc(always_first) is None


def test_choices_of_more_options_are_pooled_for_auroc_option_by_option() -> None:
    judged = choices(((0.7, 0.2, 0.1), 0), ((0.4, 0.6), 0))
    # right: 0.7, 0.4; wrong: 0.2, 0.1, 0.6; of the six pairs only 0.4 against 0.6 is the wrong way round
    assert auroc(judged) == pytest.approx(5 / 6)


def test_correlation_of_three_places_is_gorodkin_s() -> None:
    rows = [((0.8, 0.1, 0.1), 0), ((0.1, 0.8, 0.1), 1), ((0.1, 0.1, 0.8), 2), ((0.8, 0.1, 0.1), 1)]
    # 3 of 4 right; places taken 2, 1, 1; right 1, 2, 1
    expected = (3 * 4 - (2 * 1 + 1 * 2 + 1 * 1)) / math.sqrt((16 - 6) * (16 - 6))
    assert mcc(choices(*rows)) == pytest.approx(expected)


def test_what_has_one_class_only_has_no_auroc_and_no_correlation() -> None:
    all_yes = yes_no((0.9, True), (0.2, True))
    assert (auroc(all_yes), mcc(all_yes)) == (None, None)


def test_expected_calibration_error_is_the_gap_of_each_bin_weighed_by_its_answers() -> None:
    # 0.95: three of four right; 0.65: one of two
    judged = yes_no(*[(0.95, True)] * 3, (0.95, False), (0.65, True), (0.65, False))
    assert ece(judged) == pytest.approx((4 * (0.95 - 0.75) + 2 * (0.65 - 0.5)) / 6)
    low, high = reliability(judged)
    assert (low.low, low.high, low.count, low.right) == (0.6, 0.7, 2, 0.5)
    assert (high.count, high.right) == (4, 0.75)
    assert high.gap == pytest.approx(0.2)


@pytest.mark.parametrize("confidence", [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_a_confidence_on_an_edge_is_in_the_bin_below(confidence: float) -> None:
    (only,) = reliability(yes_no((confidence, True)))
    assert only.high == pytest.approx(confidence)


@given(st.lists(st.integers(6, 10), min_size=1, max_size=5, unique=True))
def test_who_is_as_often_right_as_sure_has_no_calibration_error(tenths: list[int]) -> None:
    rows = [(tenth / 10, place < tenth) for tenth in tenths for place in range(10)]
    assert ece(yes_no(*rows)) == pytest.approx(0)


@given(YES_NOS, st.floats(0.1, 10))
def test_auroc_of_yes_and_no_does_not_change_with_the_temperature(
    answers: list[tuple[float, bool]], temperature: float
) -> None:
    before = auroc(yes_no(*answers))
    after = auroc(yes_no(*answers).tempered(temperature))
    assert before == after if before is None else after == pytest.approx(before)


@given(YES_NOS)
def test_auroc_is_the_share_of_pairs_that_stand_the_right_way_round(answers: list[tuple[float, bool]]) -> None:
    yes, no = ([p for p, is_yes in answers if is_yes is wanted] for wanted in (True, False))
    pairs = [(one > other) + (one == other) / 2 for one in yes for other in no]
    expected = sum(pairs) / len(pairs) if pairs else None
    assert auroc(yes_no(*answers)) == (None if expected is None else pytest.approx(expected))


@given(CHOICES)
def test_all_figures_stay_in_their_ranges(judged: Judgements) -> None:
    for name, measure in METRICS.items():
        value = measure(judged)
        low, high = (-1, 1) if name == "mcc" else (0, -math.log(1e-6)) if name == "log_loss" else (0, 1)
        assert value is None or low - 1e-9 <= value <= high + 1e-9, name


@given(CHOICES, st.integers(0, 1000))
def test_the_order_of_the_judgements_does_not_matter(judged: Judgements, seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(len(judged))
    for measure in METRICS.values():
        assert measure(judged.at(rows)) == pytest.approx(measure(judged))


@given(CHOICES, st.floats(0.05, 20))
def test_columns_are_tempered_as_single_decisions_are(judged: Judgements, temperature: float) -> None:
    changed = judged.tempered(temperature)
    for before, after, options in zip(judged.probabilities, changed.probabilities, judged.options, strict=True):
        expected = tempered({str(place): before[place] for place in range(options)}, temperature)
        assert after[:options].tolist() == pytest.approx(list(expected.values()))
        assert not after[options:].any()


def test_intervals_hold_their_figure_and_narrow_with_more_answers() -> None:
    rows = [(0.9, True)] * 8 + [(0.8, False)] * 2 + [(0.3, False)] * 8 + [(0.2, True)] * 2
    few, many = figures(yes_no(*rows)), figures(yes_no(*rows * 10))
    for name, figure in few.items():
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        if name != "ece":  # a resample has gaps of its own beside the real ones
            assert figure.low <= figure.value <= figure.high
    assert width(many["accuracy"]) < width(few["accuracy"]) / 2


def width(figure: Figure) -> float:
    assert figure.low is not None
    assert figure.high is not None
    return figure.high - figure.low


def test_intervals_are_the_same_each_time_and_wider_where_answers_come_in_groups() -> None:
    rows = [Judgement(str(index % 4), (0.8, 0.2), int(index % 4 == 0)) for index in range(40)]
    grouped = Judgements.of("noul", rows)
    alone = Judgements.of(
        "noul", [Judgement(str(index), each.probabilities, each.right) for index, each in enumerate(rows)]
    )
    assert figures(grouped) == figures(grouped)
    assert width(figures(grouped)["accuracy"]) > width(figures(alone)["accuracy"])
