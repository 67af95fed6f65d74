"""What dialogues took is counted once, when they come, at the prices of that time."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.contracts.v1 import events_pb2
from duologue_campaign.settings import PriceSettings
from tests.support.control_plane import control_plane
from tests.support.desk import played
from tests.support.metrics import told

PRICES = PriceSettings.model_validate({"currency": "CHF", "models": {"*": {"model_hour": 3600.0}}})


async def test_seconds_and_money_of_a_dialogue_count_once_however_often_it_comes(tmp_path: Path) -> None:
    async with control_plane(tmp_path, prices=PRICES) as plane:
        await plane.create(dialogues=1)
        (request,) = await plane.asked(events_pb2.DialogueRequested)
        before = {part: told("duologue_dialogue_model_seconds_total", part=part) for part in ("client", "manager")}
        spent = told("duologue_dialogue_cost_total", currency="CHF")
        for _ in range(2):
            await plane.events.scored(played(request))
        # As tests.support.desk has it: an eighth of a second each, at a franc a second.
        for part, seconds in before.items():
            assert told("duologue_dialogue_model_seconds_total", part=part) - seconds == pytest.approx(0.125)
        assert told("duologue_dialogue_cost_total", currency="CHF") - spent == pytest.approx(0.25)


async def test_without_a_price_table_no_money_is_told_of(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as plane:
        await plane.create(dialogues=1)
        (request,) = await plane.asked(events_pb2.DialogueRequested)
        spent = told("duologue_dialogue_cost_total", currency="EUR")
        await plane.events.scored(played(request))
    assert told("duologue_dialogue_cost_total", currency="EUR") == spent
