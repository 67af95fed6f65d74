"""Which dialogues are kept, and why the others are not (Ulmer et al. 2024, section 3.4; METHOD: filters)."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from duologue.core.campaign import AtLeastFilter, AtMostFilter, EndedFilter, Filter, RandomFilter, TopFilter
from duologue.core.problems import InvalidInput, Problem

_FILTERS: TypeAdapter[tuple[Filter, ...]] = TypeAdapter(tuple[Filter, ...])

FILTER_KINDS: tuple[str, ...] = tuple(
    get_args(kind.model_fields["kind"].annotation)[0]
    for kind in (EndedFilter, AtLeastFilter, AtMostFilter, TopFilter, RandomFilter)
)

Metrics = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Decision:
    """Kept, or dropped by a filter for a reason that names the figure."""

    kept: bool
    dropped_by: str = ""
    reason: str = ""


KEPT = Decision(kept=True)


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Filters from their JSON. Raises `InvalidInput`."""
    try:
        return _FILTERS.validate_json(text or "[]")
    except ValidationError as error:
        raise InvalidInput(
            Problem("filters", 0, f"{'.'.join(map(str, item['loc'])) or 'the list'}: {item['msg']}")
            for item in error.errors(include_url=False)
        ) from None


def decide(candidates: Mapping[str, Metrics], filters: Sequence[Filter], seed: int) -> dict[str, Decision]:
    """A decision for each candidate, by dialogue id.

    Filters work one after the other, each on what the ones before left: a share is a share of that. The same
    candidates, filters and seed give the same decisions in whatever order the candidates came.
    """
    decisions = dict.fromkeys(sorted(candidates), KEPT)
    for rule in filters:
        left = {name: candidates[name] for name, decision in decisions.items() if decision.kept}
        for name, reason in _dropped(rule, left, seed).items():
            decisions[name] = Decision(False, rule.kind, reason)
    return decisions


def dropped_by(decisions: Mapping[str, Decision]) -> dict[str, int]:
    """How many each filter dropped."""
    return dict(Counter(decision.dropped_by for decision in decisions.values() if not decision.kept))


def _dropped(rule: Filter, left: Mapping[str, Metrics], seed: int) -> dict[str, str]:
    """The ids that a filter drops, each with its reason."""
    if isinstance(rule, RandomFilter):
        ranked = sorted(left, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        reason = f"not in the random {rule.share:.0%}"
        return dict.fromkeys(ranked[_count(rule.share, left) :], reason)
    if isinstance(rule, EndedFilter):
        return {name: "did not reach an ending" for name, metrics in left.items() if not metrics["ended"]}
    unmeasured = {name: f"{rule.metric} was not measured" for name, m in left.items() if m.get(rule.metric) is None}
    values = {name: _number(metrics, rule.metric) for name, metrics in left.items() if name not in unmeasured}
    if isinstance(rule, TopFilter):
        return unmeasured | _outside_top(rule, values)
    return unmeasured | {
        name: f"{rule.metric} is {value:g}, {rule.kind} asks for {rule.value:g}"
        for name, value in values.items()
        if not _passes(rule, value)
    }


def _passes(rule: AtLeastFilter | AtMostFilter, value: float) -> bool:
    return value >= rule.value if isinstance(rule, AtLeastFilter) else value <= rule.value


def _outside_top(rule: TopFilter, values: Mapping[str, float]) -> dict[str, str]:
    ranked = sorted(values, key=lambda name: (-values[name], name))
    kept = ranked[: _count(rule.share, values)]
    if not kept:
        return {}
    worst = values[kept[-1]]

    def reason(value: float) -> str:
        among_equals = " and is full: of equals it has the lowest ids" if value == worst else ""
        return f"{rule.metric} is {value:g}, the top {rule.share:.0%} ends at {worst:g}{among_equals}"

    return {name: reason(values[name]) for name in ranked[len(kept) :]}


def _count(share: float, left: Mapping[str, object]) -> int:
    """A share of what is left, rounded up; the small slack undoes binary fractions, as in 0.1 * 30."""
    return math.ceil(share * len(left) - 1e-9)


def _number(metrics: Metrics, metric: str) -> float:
    value = metrics[metric]
    return float(value) if isinstance(value, (int, float)) else math.nan
