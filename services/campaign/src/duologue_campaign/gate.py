"""Is the new adapter better? Paired held-out dialogues, with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.campaign import Gate

# Always shown beside the metrics that decide.
_SHOWN = ("subgoals_relative", "subgoals_branch", "ended", "success", "character_agent")
# Over fewer pairs the percentile bootstrap's interval is too narrow, and a handful that agree by chance have none.
MIN_PAIRS = 20
_RESAMPLES = 2000
# Figures that are drawn at once: some tens of megabytes, however many dialogues there are.
_BATCH = 2_000_000

Scores = Mapping[str, float]


def evaluate(adapter_id: str, current_id: str, pairs: Sequence[tuple[Scores, Scores]], gate: Gate) -> pb.Evaluation:
    """Compare (current, candidate) scores of the same cast and seed, and say whether to release.

    Released when the gain of the gate's metric is above `min_gain` with its whole confidence interval, and no guard
    falls with its whole interval. Metric and guards must be measured on `MIN_PAIRS` pairs each.
    """
    found = [_compare(name, pairs, gate.confidence) for name in _metrics(gate)]
    return _evaluation(adapter_id, current_id, found, gate, "no pair of dialogues")


def compare(
    adapter_id: str, current_id: str, current: Sequence[Scores], candidate: Sequence[Scores], gate: Gate
) -> pb.Evaluation:
    """The same for dialogues that make no pairs: the gain is that of the means. `released`: what the gate would do."""
    found = [_compare_apart(name, current, candidate, gate.confidence) for name in _metrics(gate)]
    return _evaluation(adapter_id, current_id, found, gate, "no dialogues of both adapters")


def _metrics(gate: Gate) -> tuple[str, ...]:
    return tuple(dict.fromkeys((gate.metric, *gate.guards, *_SHOWN)))


def _evaluation(
    adapter_id: str, current_id: str, found: Sequence[pb.Comparison | None], gate: Gate, nothing: str
) -> pb.Evaluation:
    """`nothing`: what a metric was measured on that was not measured."""
    comparisons = {comparison.metric: comparison for comparison in found if comparison is not None}
    released, reason = _verdict(comparisons, gate, nothing)
    return pb.Evaluation(
        adapter_id=adapter_id,
        current_adapter_id=current_id,
        comparisons=comparisons.values(),
        confidence=gate.confidence,
        released=released,
        reason=reason,
    )


def _verdict(comparisons: Mapping[str, pb.Comparison], gate: Gate, nothing: str) -> tuple[bool, str]:
    for name in (gate.metric, *gate.guards):
        if name not in comparisons:
            return False, f"{name} was measured on {nothing}"
        if _count(comparisons[name]) < MIN_PAIRS:
            return False, f"{name} was measured on {_too_few(comparisons[name])}"
    for name in gate.guards:
        guard = comparisons[name]
        if guard.gain.high < 0:
            return False, f"{name} falls: {_shown(guard.gain)}"
    main = comparisons[gate.metric]
    if main.gain.low > gate.min_gain:
        return True, f"{gate.metric} gains {_shown(main.gain)} over {_told_count(main)}"
    asked = f"above {gate.min_gain:g}" if gate.min_gain else "above 0"
    return False, f"the gain of {gate.metric} is not surely {asked}: {_shown(main.gain)} over {_told_count(main)}"


def _count(comparison: pb.Comparison) -> int:
    """What the verdict stands on: pairs, or in a canary the dialogues of the side that has fewer."""
    return comparison.pairs or min(comparison.current_dialogues, comparison.candidate_dialogues)


def _told_count(comparison: pb.Comparison) -> str:
    if comparison.pairs:
        return f"{comparison.pairs} pairs"
    return f"{comparison.current_dialogues} and {comparison.candidate_dialogues} dialogues"


def _too_few(comparison: pb.Comparison) -> str:
    pairs = comparison.pairs
    if pairs:
        return f"{pairs} {'pair' if pairs == 1 else 'pairs'} of dialogues, a release needs {MIN_PAIRS}"
    return f"{_told_count(comparison)}, a release needs {MIN_PAIRS} of each adapter"


def _shown(interval: pb.Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _compare(name: str, pairs: Sequence[tuple[Scores, Scores]], confidence: float) -> pb.Comparison | None:
    """None when the metric was not measured on both sides of any pair."""
    both = [(left[name], right[name]) for left, right in pairs if name in left and name in right]
    if not both:
        return None
    current, candidate = np.array(both).T
    return pb.Comparison(
        metric=name,
        current=_interval(current, confidence),
        candidate=_interval(candidate, confidence),
        gain=_interval(candidate - current, confidence),
        pairs=len(both),
    )


def _compare_apart(
    name: str, current: Sequence[Scores], candidate: Sequence[Scores], confidence: float
) -> pb.Comparison | None:
    """None when the metric was not measured on one of the sides."""
    before, after = (np.array([scores[name] for scores in side if name in scores]) for side in (current, candidate))
    if not len(before) or not len(after):
        return None
    return pb.Comparison(
        metric=name,
        current=_interval(before, confidence),
        candidate=_interval(after, confidence),
        gain=_difference(before, after, confidence),
        current_dialogues=len(before),
        candidate_dialogues=len(after),
    )


def _interval(values: np.ndarray, confidence: float) -> pb.Interval:
    """The mean with its interval."""
    return _bootstrap((values,), lambda drawn, axis: drawn.mean(axis=axis), confidence)


def _difference(before: np.ndarray, after: np.ndarray, confidence: float) -> pb.Interval:
    """Of the means, where nothing pairs the figures."""
    return _bootstrap(
        (before, after), lambda left, right, axis: right.mean(axis=axis) - left.mean(axis=axis), confidence
    )


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: Callable[..., Any], confidence: float) -> pb.Interval:
    """A figure with its bootstrap interval (percentile, seeded: the same samples give the same interval)."""
    value = float(statistic(*samples, axis=-1))
    if min(map(len, samples)) < 2 or not any(np.ptp(sample) for sample in samples):
        return pb.Interval(value=value, low=value, high=value)
    result = stats.bootstrap(
        samples,
        statistic,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH // max(map(len, samples))),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return pb.Interval(value=value, low=float(low), high=float(high))
