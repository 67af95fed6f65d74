"""What things cost by the price table of the settings. Nothing is stored: other prices make other costs of the past."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from math import fsum

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.usage import Account, Usage
from duologue_campaign.settings import Price, PriceSettings

_MILLION = 1_000_000
_HOUR = 3600.0
# Of an amount: a millionth is less than one token costs anywhere.
_DECIMALS = 6


class Prices:
    """The price table."""

    def __init__(self, settings: PriceSettings) -> None:
        self._settings = settings

    @property
    def currency(self) -> str:
        return self._settings.currency

    def cost(self, usages: Iterable[tuple[Account, Usage]]) -> pb.Cost | None:
        """Of all of it. None without a price table; without an amount where a model that was used has no price."""
        if not self._settings.models:
            return None
        used = list(usages)
        prices = {account.model: self._of(account.model) for account, _ in used}
        cost = pb.Cost(currency=self._settings.currency, unpriced_models=sorted(_without_price(prices)))
        if not cost.unpriced_models:
            cost.amount = round(fsum(_amount(prices[account.model], usage) for account, usage in used), _DECIMALS)
        return cost

    def cost_of_each(self, cost: pb.Cost | None, count: int) -> pb.Cost | None:
        """A cost over a number of things; None where that is no number."""
        if cost is None or not cost.HasField("amount") or not count:
            return None
        return pb.Cost(currency=cost.currency, amount=round(cost.amount / count, _DECIMALS))

    def _of(self, model: str) -> Price | None:
        """That of the name itself, else of the first pattern that fits it."""
        table = self._settings.models
        fitting = (price for pattern, price in table.items() if fnmatchcase(model, pattern))
        return table.get(model) or next(fitting, None)


def _without_price(prices: dict[str, Price | None]) -> set[str]:
    return {model or "unnamed" for model, price in prices.items() if price is None}


def _amount(price: Price | None, usage: Usage) -> float:
    if price is None:
        raise ValueError("a model without a price costs nothing that could be told")
    read = max(usage.prompt_tokens - usage.cached_tokens, 0)  # whatever a message says, nothing is earned
    cached = price.prompt if price.cached is None else price.cached
    tokens = read * price.prompt + usage.cached_tokens * cached + usage.completion_tokens * price.completion
    return tokens / _MILLION + usage.seconds / _HOUR * price.model_hour
