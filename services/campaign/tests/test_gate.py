"""The gate: when a new adapter is released, when it is refused, and what it says."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.campaign import Gate
from duologue_campaign.gate import MIN_PAIRS, compare, evaluate

Pair = tuple[dict[str, float], dict[str, float]]


def pairs(
    gain: float, count: int = 40, spread: float = 0.1, metric: str = "subgoals_relative", seed: int = 0
) -> list[Pair]:
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        current = draw.uniform(0.3, 0.6)
        found.append(({metric: current, "success": 1.0}, {metric: current + draw.gauss(gain, spread), "success": 1.0}))
    return found


def judged(found: list[Pair], **gate: Any) -> pb.Evaluation:
    return evaluate("new", "old", found, Gate(**gate))


def compared(evaluation: pb.Evaluation, metric: str) -> pb.Comparison:
    return next(item for item in evaluation.comparisons if item.metric == metric)


def test_a_gain_that_is_sure_is_released_with_its_figures() -> None:
    evaluation = judged(pairs(0.2))
    assert evaluation.released
    assert (evaluation.adapter_id, evaluation.current_adapter_id, evaluation.confidence) == ("new", "old", 0.95)
    comparison = compared(evaluation, "subgoals_relative")
    assert comparison.pairs == 40
    assert 0 < comparison.gain.low < comparison.gain.value < comparison.gain.high
    assert comparison.gain.value == pytest.approx(comparison.candidate.value - comparison.current.value)
    assert evaluation.reason == (
        f"subgoals_relative gains {comparison.gain.value:+.3f} "
        f"[{comparison.gain.low:+.3f}, {comparison.gain.high:+.3f}] over 40 pairs"
    )


@pytest.mark.parametrize("gain", [0.0, -0.2])
def test_no_gain_or_a_loss_is_refused(gain: float) -> None:
    evaluation = judged(pairs(gain))
    assert not evaluation.released
    assert evaluation.reason.startswith("the gain of subgoals_relative is not surely above 0: ")


def test_a_gain_that_may_be_chance_is_refused() -> None:
    evaluation = judged(pairs(0.05, count=6, spread=0.3))
    comparison = compared(evaluation, "subgoals_relative")
    assert comparison.gain.low <= 0 < comparison.gain.high
    assert not evaluation.released


def test_the_whole_interval_must_be_above_the_least_gain() -> None:
    found = pairs(0.2)
    low = compared(judged(found), "subgoals_relative").gain.low
    assert judged(found, min_gain=low - 0.001).released
    evaluation = judged(found, min_gain=low + 0.001)
    assert not evaluation.released
    assert f"not surely above {low + 0.001:g}" in evaluation.reason


def test_a_guard_that_surely_falls_refuses_whatever_the_gain() -> None:
    found = [
        (current, candidate | {"success": float(index % 2)}) for index, (current, candidate) in enumerate(pairs(0.3))
    ]
    evaluation = judged(found)
    assert not evaluation.released
    assert evaluation.reason.startswith("success falls: -0.500 [")


def test_a_guard_that_falls_by_chance_does_not_refuse() -> None:
    found = pairs(0.3)
    found[0] = (found[0][0], found[0][1] | {"success": 0.0})
    evaluation = judged(found)
    assert compared(evaluation, "success").gain.value < 0
    assert evaluation.released


def test_without_guards_none_is_asked() -> None:
    found = [(current, candidate | {"success": 0.0}) for current, candidate in pairs(0.3)]
    assert judged(found, guards=()).released


def test_a_guard_that_was_not_measured_refuses_by_its_name() -> None:
    evaluation = judged(pairs(0.3), guards=("success", "character_agent"))
    assert not evaluation.released
    assert evaluation.reason == "character_agent was measured on no pair of dialogues"


def test_a_guard_that_was_measured_on_few_pairs_refuses() -> None:
    found = pairs(0.3)
    for _, candidate in found[MIN_PAIRS - 1 :]:
        del candidate["success"]
    evaluation = judged(found)
    assert not evaluation.released
    assert evaluation.reason == "success was measured on 19 pairs of dialogues, a release needs 20"


@pytest.mark.parametrize(("count", "released"), [(MIN_PAIRS - 1, False), (MIN_PAIRS, True)])
def test_a_few_pairs_that_all_agree_show_nothing(count: int, released: bool) -> None:
    found = [({"subgoals_relative": 0.25}, {"subgoals_relative": 0.75})] * count
    evaluation = judged(found, guards=())
    assert evaluation.released is released
    assert f"{count} pairs" in evaluation.reason


@pytest.mark.parametrize("found", [[], [({"words": 1.0}, {"words": 2.0})], [({"subgoals_relative": 0.1}, {})]])
def test_what_was_measured_on_no_pair_is_refused(found: list[Pair]) -> None:
    evaluation = judged(found)
    assert not evaluation.released
    assert evaluation.reason == "subgoals_relative was measured on no pair of dialogues"


def test_one_pair_shows_nothing() -> None:
    evaluation = judged(pairs(0.3, count=1))
    assert not evaluation.released
    assert "1 pair" in evaluation.reason


def test_pairs_with_one_side_unmeasured_do_not_count() -> None:
    found = [
        *pairs(0.2, count=10),
        ({"subgoals_relative": 0.9}, {"success": 1.0}),
        ({"success": 1.0}, {"success": 1.0}),
    ]
    evaluation = judged(found)
    assert compared(evaluation, "subgoals_relative").pairs == 10
    assert compared(evaluation, "success").pairs == 11


def test_adapters_that_answer_alike_are_not_told_apart() -> None:
    found = [(current, dict(current)) for current, _ in pairs(0.2)]
    evaluation = judged(found)
    gain = compared(evaluation, "subgoals_relative").gain
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)
    assert not evaluation.released


def test_any_metric_can_decide() -> None:
    assert judged(pairs(0.3, metric="character_agent"), metric="character_agent").released


def test_the_same_figures_give_the_same_verdict() -> None:
    assert judged(pairs(0.05)) == judged(pairs(0.05))


def test_more_confidence_asks_for_a_wider_interval() -> None:
    found = pairs(0.1)
    widths = [
        compared(judged(found, confidence=confidence), "subgoals_relative").gain for confidence in (0.5, 0.9, 0.99)
    ]
    assert [interval.high - interval.low for interval in widths] == sorted(
        interval.high - interval.low for interval in widths
    )


def test_the_interval_holds_the_true_gain_about_as_often_as_it_says() -> None:
    """300 experiments of 40 pairs with a known gain: at 90% between 84% and 95% must hold it."""
    held = 0
    for seed in range(300):
        found = [
            ({"subgoals_relative": current["subgoals_relative"]}, {"subgoals_relative": candidate["subgoals_relative"]})
            for current, candidate in pairs(0.1, spread=0.3, seed=seed)
        ]
        gain = compared(judged(found, confidence=0.9), "subgoals_relative").gain
        held += gain.low <= 0.1 <= gain.high
    assert 0.84 * 300 < held < 0.95 * 300


def test_without_a_true_gain_an_adapter_is_seldom_released() -> None:
    released = sum(judged(pairs(0.0, spread=0.3, seed=seed), guards=()).released for seed in range(200))
    assert released <= 0.06 * 200  # one side of 95% is 2.5%


def test_many_pairs_fit_into_little_memory() -> None:
    found = [({"words": float(index % 7)}, {"words": float(index % 5)}) for index in range(20_000)]
    tracemalloc.start()
    evaluation = judged(found, metric="words")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert compared(evaluation, "words").pairs == 20_000
    assert peak < 2**27  # 2,000 resamples of them all would take 320 MB


def apart(gain: float, count: int = 60) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Dialogues of both adapters that make no pairs; the current one has three times as many."""
    draw = random.Random(0)
    current = [{"subgoals_relative": draw.uniform(0.3, 0.6), "success": 1.0} for _ in range(3 * count)]
    candidate = [{"subgoals_relative": draw.uniform(0.3, 0.6) + gain, "success": 1.0} for _ in range(count)]
    return current, candidate


def test_dialogues_that_make_no_pairs_are_compared_by_their_means() -> None:
    current, candidate = apart(0.2)
    evaluation = compare("new", "old", current, candidate, Gate())
    assert evaluation.released
    comparison = compared(evaluation, "subgoals_relative")
    assert (comparison.current_dialogues, comparison.candidate_dialogues, comparison.pairs) == (180, 60, 0)
    assert comparison.gain.value == pytest.approx(comparison.candidate.value - comparison.current.value)
    assert 0.1 < comparison.gain.low < comparison.gain.value < comparison.gain.high < 0.3
    assert evaluation.reason.endswith("over 180 and 60 dialogues")


@pytest.mark.parametrize("gain", [0.0, -0.2])
def test_without_pairs_too_no_gain_is_no_reason_to_release(gain: float) -> None:
    assert not compare("new", "old", *apart(gain), Gate()).released


def test_the_side_with_fewer_dialogues_must_have_as_many_as_a_release_needs() -> None:
    current, candidate = apart(0.3, count=MIN_PAIRS - 1)
    evaluation = compare("new", "old", current, candidate, Gate())
    assert not evaluation.released
    assert evaluation.reason == (
        "subgoals_relative was measured on 57 and 19 dialogues, a release needs 20 of each adapter"
    )


def test_with_dialogues_of_one_side_only_there_is_nothing_to_compare() -> None:
    current, _ = apart(0.3)
    evaluation = compare("new", "old", current, [], Gate())
    assert (list(evaluation.comparisons), evaluation.released) == ([], False)
    assert evaluation.reason == "subgoals_relative was measured on no dialogues of both adapters"


def test_without_pairs_the_interval_holds_the_true_gain_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(100):
        draw = random.Random(seed)
        current = [{"subgoals_relative": draw.gauss(0.4, 0.1)} for _ in range(90)]
        candidate = [{"subgoals_relative": draw.gauss(0.5, 0.2)} for _ in range(30)]
        gain = compared(compare("new", "old", current, candidate, Gate()), "subgoals_relative").gain
        hits += gain.low <= 0.1 <= gain.high
    assert hits >= 85
