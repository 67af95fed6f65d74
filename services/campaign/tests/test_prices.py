"""What a price table makes of usage; where it has no answer, no cost is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.usage import Account, Part, Usage
from duologue_campaign.prices import Prices
from duologue_campaign.settings import PriceSettings
from tests.support.campaign_world import World
from tests.support.control_plane import control_plane

AGENT = Account(Part.AGENT, "qwen-72b")


def prices(**models: Any) -> Prices:
    return Prices(PriceSettings.model_validate({"currency": "USD", "models": models}))


def amount(table: Prices, account: Account, usage: Usage) -> float:
    cost = table.cost([(account, usage)])
    assert cost is not None
    assert cost.HasField("amount")
    return cost.amount


def test_without_a_price_table_there_is_no_cost() -> None:
    assert Prices(PriceSettings()).cost([(AGENT, Usage(10, 10))]) is None


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        ({"prompt": 0.5}, Usage(2_000_000, 500), 1.0),
        ({"completion": 4}, Usage(2_000_000, 500), 0.002),
        ({"prompt": 0.5, "cached": 0.1}, Usage(2_000_000, 0, 2_000_000, 1_500_000), 0.25 + 0.15),
        ({"prompt": 0.5}, Usage(2_000_000, 0, 2_000_000, 1_500_000), 1.0),
        ({"prompt": 0.5, "cached": 0}, Usage(2_000_000, 0, 2_000_000, 2_000_000), 0.0),
        ({"model_hour": 0.1}, Usage(2_000_000, 500, seconds=7200), 0.2),
        ({"prompt": 0.3}, Usage(7, 0), 0.000002),  # 0.0000021, rounded to a millionth
    ],
)
def test_tokens_cost_by_the_million_and_answers_by_the_hour(price: dict[str, float], usage: Usage, cost: float) -> None:
    assert amount(prices(**{"qwen-72b": price}), AGENT, usage) == pytest.approx(cost, abs=1e-12)


def test_the_name_itself_wins_over_patterns_and_the_first_pattern_over_the_next() -> None:
    table = prices(**{"desk-*": {"prompt": 2}, "*": {"prompt": 1}, "desk-r1": {"prompt": 3}})
    million = Usage(1_000_000, 0)
    for model, cost in (("desk-r1", 3), ("desk-r2", 2), ("other", 1), ("", 1)):
        assert amount(table, Account(Part.AGENT, model), million) == cost


def test_a_model_without_a_price_is_named_and_no_amount_is_told() -> None:
    cost = prices(tiny={"prompt": 1}).cost([(Account(Part.CLIENT, "tiny"), Usage(5, 5)), (AGENT, Usage(5, 5))])
    assert cost == pb.Cost(currency="USD", unpriced_models=["qwen-72b"])


@given(st.lists(st.builds(Usage, *[st.integers(0, 10**9)] * 2), min_size=1, max_size=20))
def test_the_whole_costs_what_its_parts_cost(parts: list[Usage]) -> None:
    table = prices(**{"*": {"prompt": 0.37, "completion": 1.13}})
    whole = table.cost([(AGENT, usage) for usage in parts])
    assert whole is not None
    each = [amount(table, AGENT, usage) for usage in parts]
    assert whole.amount == pytest.approx(sum(each), abs=1e-6 * len(each))


async def test_a_campaign_tells_what_it_cost_in_parts_and_for_each_kept_dialogue(tmp_path: Path) -> None:
    table = PriceSettings.model_validate({"models": {"*": {"prompt": 1_000_000}}})
    async with control_plane(tmp_path, prices=table) as plane:
        campaign = await World(plane, await plane.create()).run()
        assert campaign.cost == pb.Cost(currency="EUR", amount=6 * 70)
        assert campaign.cost_per_kept.amount == 6 * 70 / 3
        assert sum(expense.cost.amount for expense in campaign.expenses) == 6 * 70
        listed = await plane.rpc.ListDialogues(pb.ListDialoguesRequest(campaign=campaign.id, decision="kept"), None)
        assert [record.cost.amount for record in listed.dialogues] == [70] * 3


async def test_a_campaign_that_kept_nothing_has_no_cost_per_kept_dialogue(tmp_path: Path) -> None:
    table = PriceSettings.model_validate({"models": {"*": {"prompt": 1_000_000}}})
    async with control_plane(tmp_path, prices=table) as plane:
        campaign = await plane.campaign(await plane.create())
    assert campaign.HasField("cost")
    assert not campaign.HasField("cost_per_kept")
