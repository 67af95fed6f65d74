"""What scored dialogues took, counted for Prometheus as they come: seconds of models, and money."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter

from duologue.contracts.convert import usage_from_proto
from duologue.contracts.v1 import dialogue_pb2
from duologue.core.usage import Part
from duologue_campaign.prices import Prices

_SECONDS = Counter(
    "duologue_dialogue_model_seconds_total", "Seconds of answers that went into scored dialogues.", ("part",)
)
_COST = Counter(
    "duologue_dialogue_cost_total",
    "What scored dialogues cost when they came, by the price table of that time, in that currency.",
    ("currency",),
)
_PARTS = {part: _SECONDS.labels(part) for part in Part}


class Spending:
    """Of all campaigns together, by this copy of the service: another price table changes nothing of the past."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        if (nothing := prices.cost([])) is not None:
            _COST.labels(nothing.currency)

    def count(self, usages: Sequence[dialogue_pb2.ModelUsage]) -> None:
        """What one dialogue used; a model that has no price costs nothing that could be told."""
        used = [usage_from_proto(usage) for usage in usages]
        for account, usage in used:
            if account.part in _PARTS:  # a newer version may know others
                _PARTS[Part(account.part)].inc(max(usage.seconds, 0.0))
        cost = self._prices.cost(used)
        if cost is not None and cost.HasField("amount"):
            _COST.labels(cost.currency).inc(max(cost.amount, 0.0))
