"""A control plane takes no more on than its team's share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.runtime.errors import NotPossible
from duologue_campaign.settings import QuotaSettings
from tests.support.control_plane import ControlPlane, control_plane


async def cancel(plane: ControlPlane, campaign_id: str) -> None:
    await plane.rpc.CancelCampaign(pb.CancelCampaignRequest(campaign=campaign_id), None)


async def test_a_campaign_too_many_is_refused_until_one_is_over(tmp_path: Path, database_url: str) -> None:
    async with control_plane(tmp_path, database_url, quota=QuotaSettings(campaigns=2)) as plane:
        first = await plane.create(campaign="first")
        await plane.create(campaign="second")
        with pytest.raises(NotPossible, match=r"2 campaigns are not over \(first, second\).*quota\.campaigns"):
            await plane.create(campaign="third")
        await cancel(plane, first)
        await plane.create(campaign="third")


async def test_campaigns_that_come_at_once_do_not_slip_through(tmp_path: Path, database_url: str) -> None:
    async with control_plane(tmp_path, database_url, quota=QuotaSettings(campaigns=2)) as plane:
        tries = (plane.create(campaign=f"number-{number}") for number in range(6))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(outcome, NotPossible) for outcome in outcomes) == 4


async def test_a_request_that_comes_again_is_no_other_campaign(tmp_path: Path, database_url: str) -> None:
    async with control_plane(tmp_path, database_url, quota=QuotaSettings(campaigns=1)) as plane:
        assert await plane.create(request_id="once") == await plane.create(request_id="once")


async def test_a_campaign_that_is_too_large_is_refused_with_its_size(tmp_path: Path, database_url: str) -> None:
    async with control_plane(tmp_path, database_url, quota=QuotaSettings(dialogues=10)) as plane:
        with pytest.raises(NotPossible, match=r"3 rounds of 4 dialogues are 12, .* 10 for a campaign"):
            await plane.create(rounds=3, dialogues=4)
        await plane.create(rounds=2, dialogues=5)
