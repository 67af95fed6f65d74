"""Is the new adapter better? Paired held-out dialogues, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    names = tuple(dict.fromkeys((gate.metric, *gate.guards, *_SHOWN)))
    found = {name: _compare(name, pairs, gate.confidence) for name in names}
    comparisons = {name: comparison for name, comparison in found.items() if comparison is not None}
    released, reason = _verdict(comparisons, gate)
    return pb.Evaluation(
        adapter_id=adapter_id,
        current_adapter_id=current_id,
        comparisons=comparisons.values(),
        confidence=gate.confidence,
        released=released,
        reason=reason,
    )


def _verdict(comparisons: Mapping[str, pb.Comparison], gate: Gate) -> tuple[bool, str]:
    for name in (gate.metric, *gate.guards):
        pairs = comparisons[name].pairs if name in comparisons else 0
        if pairs < MIN_PAIRS:
            return False, f"{name} was measured on {_too_few(pairs)}"
    for name in gate.guards:
        guard = comparisons[name]
        if guard.gain.high < 0:
            return False, f"{name} falls: {_shown(guard.gain)}"
    main = comparisons[gate.metric]
    if main.gain.low > gate.min_gain:
        return True, f"{gate.metric} gains {_shown(main.gain)} over {main.pairs} pairs"
    asked = f"above {gate.min_gain:g}" if gate.min_gain else "above 0"
    return False, f"the gain of {gate.metric} is not surely {asked}: {_shown(main.gain)} over {main.pairs} pairs"


def _too_few(pairs: int) -> str:
    if not pairs:
        return "no pair of dialogues"
    return f"{pairs} {'pair' if pairs == 1 else 'pairs'} of dialogues, a release needs {MIN_PAIRS}"


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


def _interval(values: np.ndarray, confidence: float) -> pb.Interval:
    """The mean with its bootstrap interval (percentile, seeded: the same figures give the same interval)."""
    mean = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return pb.Interval(value=mean, low=mean, high=mean)
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH // len(values)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return pb.Interval(value=mean, low=float(low), high=float(high))
