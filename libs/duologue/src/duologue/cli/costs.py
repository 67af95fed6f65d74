"""What a campaign or a dialogue used and cost, as people read it."""

from __future__ import annotations

from collections.abc import Iterable

from duologue.cli.output import console, printable
from duologue.contracts.convert import usage_from_proto
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2
from duologue.core.usage import by_part

_CENTS_FROM = 10


def print_costs(campaign: pb.Campaign) -> None:
    tokens = campaign.prompt_tokens + campaign.completion_tokens
    kept = sum(round_.kept for round_ in campaign.history)
    line = f"\n{tokens:,} tokens ({campaign.completion_tokens:,} written), {campaign.model_seconds:.0f} model seconds"
    if kept:
        hours = campaign.model_seconds / 3600
        line += f"; {tokens // kept:,} tokens per kept dialogue"
        line += f", {kept / hours:,.0f} kept per model hour" if hours else ""
    console.print(line)
    if campaign.expenses:
        console.print(cached_text([expense.usage for expense in campaign.expenses]))
    if campaign.HasField("cost"):
        console.print(printable(f"cost {cost_text(campaign.cost)}{_fates(campaign)}{_each(campaign)}"), markup=False)


def cached_text(usages: Iterable[dialogue_pb2.ModelUsage]) -> str:
    """Which share of the prompts each part's server had in its prefix cache, as far as it tells."""
    parts = by_part(map(usage_from_proto, usages))
    shares = {part: _share_text(usage.cached_share) for part, usage in parts.items() if usage.prompt_tokens}
    if set(shares.values()) <= {_share_text(None)}:
        return "prompt tokens from the prefix cache: not told by these servers"
    return "prompt tokens from the prefix cache: " + ", ".join(f"{part} {text}" for part, text in shares.items())


def cost_text(cost: pb.Cost) -> str:
    """An amount, or why there is none."""
    if not cost.HasField("amount"):
        return f"not known: no price for {', '.join(cost.unpriced_models)}"
    return f"{_number(cost.amount)} {cost.currency}"


def _fates(campaign: pb.Campaign) -> str:
    """The parts of a known cost: by what became of the dialogues, and how much of all of it came to nothing."""
    if not campaign.cost.HasField("amount"):
        return ""
    amounts: dict[str, float] = {}
    for expense in campaign.expenses:
        amounts[expense.decision] = amounts.get(expense.decision, 0.0) + expense.cost.amount
    wasted = sum(expense.cost.amount for expense in campaign.expenses if expense.usage.wasted)
    parts = [f"{decision} {_number(amount)}" for decision, amount in amounts.items()]
    return f" ({', '.join(parts)}; of all that, wasted {_number(wasted)})" if parts else ""


def _each(campaign: pb.Campaign) -> str:
    return f"; {cost_text(campaign.cost_per_kept)} per kept dialogue" if campaign.HasField("cost_per_kept") else ""


def _share_text(share: float | None) -> str:
    return "not told" if share is None else f"{share:.0%}"


def _number(amount: float) -> str:
    """To the cent from ten on, to the millionth below."""
    return f"{amount:,.2f}" if amount >= _CENTS_FROM else f"{amount:.6f}".rstrip("0").rstrip(".")
