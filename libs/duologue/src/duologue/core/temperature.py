"""Temperature scaling: p ** (1 / T), made to sum to 1 (Guo et al. 2017, section 4.2).

A temperature above 1 takes confidence away; which option is likeliest does not change.
"""

from __future__ import annotations

from collections.abc import Mapping

LOWEST, HIGHEST = 0.05, 20.0
# What a model holds for impossible is less likely than this, and no more can be said.
LEAST = 1e-6


def tempered(probabilities: Mapping[str, float], temperature: float) -> dict[str, float]:
    """The same distribution, flatter for a temperature above 1, steeper below."""
    if temperature == 1.0:
        return dict(probabilities)
    powers = {option: max(p, LEAST) ** (1 / temperature) for option, p in probabilities.items()}
    total = sum(powers.values())
    return {option: power / total for option, power in powers.items()}
