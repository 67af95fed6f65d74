"""Several processes of the control plane on one PostgreSQL, where transactions meet that SQLite has one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2
from duologue.runtime.errors import NotPossible
from duologue_campaign.releases import lock_releases, release, roll_back
from duologue_campaign.tables import AdapterRow, CampaignRow
from services.campaign.tests.test_canaries import begin
from services.campaign.tests.test_commands import cancel, pause, resume
from services.campaign.tests.test_releases import promote, states, trained
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane, control_plane, create_request
from tests.support.desk import played
from tests.support.transactions import held, waits

Command = Callable[[ControlPlane, str], Awaitable[Any]]


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


def locked(campaign_id: str) -> Callable[[Session], Any]:
    return lambda session: session.get_one(CampaignRow, campaign_id, with_for_update=True)


async def test_a_campaign_that_is_asked_for_twice_at_once_is_one(
    plane: ControlPlane, tmp_path: Path, database_url: str
) -> None:
    async with control_plane(tmp_path, database_url) as other:
        request = create_request("the same", dialogues=3, concurrency=3)
        created = await asyncio.gather(*(each.rpc.CreateCampaign(request, None) for each in (plane, other) * 4))
    assert len({response.campaign.id for response in created}) == 1
    assert len(await plane.asked(events_pb2.DialogueRequested)) == 3


@pytest.mark.parametrize("command", [pause, resume, cancel])
async def test_a_command_waits_for_whoever_changes_the_campaign(
    plane: ControlPlane, database_url: str, command: Command
) -> None:
    campaign_id = await plane.create()
    async with held(database_url, locked(campaign_id)):
        commanded = asyncio.create_task(command(plane, campaign_id))
        await waits(plane.database)
    await commanded


async def test_dialogues_that_come_to_two_processes_at_once_are_all_counted_and_none_twice(
    plane: ControlPlane, tmp_path: Path, database_url: str
) -> None:
    campaign_id = await plane.create(dialogues=16, concurrency=16)
    requests = await plane.asked(events_pb2.DialogueRequested)
    async with control_plane(tmp_path, database_url) as other:
        told = [each.events.scored(played(request)) for request in requests for each in (plane, other)]
        await asyncio.gather(*told)
    current = (await plane.campaign(campaign_id)).history[-1]
    assert (current.candidates, current.phase) == (16, pb.ROUND_PHASE_SEALING)


async def test_two_that_drive_at_once_ask_again_once(plane: ControlPlane, tmp_path: Path, database_url: str) -> None:
    campaign_id = await plane.create(dialogues=3)
    async with control_plane(tmp_path, database_url) as other:
        drivers = [each.driver(reissue_seconds=600) for each in (plane, other)]
        for each in (plane, other):
            each.clock.now += 601
        await asyncio.gather(*(driver.look() for driver in drivers))
    asked = await plane.asked(events_pb2.DialogueRequested, campaign_id)
    assert len(asked) == 6


async def test_promotions_and_rollbacks_of_an_agent_wait_for_each_other(plane: ControlPlane, database_url: str) -> None:
    await trained(plane, "a", "b")
    async with held(database_url, lambda session: lock_releases(session, "desk")):
        promotions = [asyncio.create_task(promote(plane, name)) for name in ("a", "b")]
        await waits(plane.database, 2)
    await asyncio.gather(*promotions)
    assert sorted((await states(plane)).values()) == ["released", "retired"]


async def test_a_promotion_that_waited_for_a_rollback_of_the_same_adapter_holds(
    plane: ControlPlane, database_url: str
) -> None:
    await trained(plane, "a", "b")
    await promote(plane, "b")
    await promote(plane, "a")

    def undo(session: Session) -> None:
        record = roll_back(session, "desk", plane.clock()).told
        plane.outbox.add(session, [record])

    async with held(database_url, undo):
        again = asyncio.create_task(promote(plane, "a"))
        await waits(plane.database)
    await again
    assert await states(plane) == {"a": "released", "b": "retired"}


async def test_the_gate_waits_for_a_promotion_and_takes_it_into_account(plane: ControlPlane, database_url: str) -> None:
    await trained(plane, "by hand")
    world = World(plane, await plane.create(rounds=1, concurrency=40, evaluation={"dialogues": 20}))
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_EVALUATING)
    await world.look()
    *before, last = world.pending
    for event in before:
        await world.tell(event)

    def promoted(session: Session) -> None:
        adapter = session.get_one(AdapterRow, "by hand")
        plane.outbox.add(session, release(session, adapter, "promote", plane.clock()))

    async with held(database_url, promoted):
        told = asyncio.create_task(world.tell(last))
        await waits(plane.database)
    await told
    evaluation = (await plane.campaign(world.campaign_id)).history[0].evaluation
    assert not evaluation.released
    assert evaluation.reason.startswith("by hand answers now")


async def test_of_two_canaries_that_begin_at_once_one_is_refused(plane: ControlPlane, database_url: str) -> None:
    await trained(plane, "a", "b")
    async with held(database_url, lambda session: lock_releases(session, "desk")):
        begun = [asyncio.create_task(begin(plane, name)) for name in ("a", "b")]
        await waits(plane.database, 2)
    outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if isinstance(outcome, Exception)) == [NotPossible]
    assert len(await plane.asked(events_pb2.AdapterReleased)) == 1


async def test_a_canary_that_waited_for_its_adapters_promotion_is_refused(
    plane: ControlPlane, database_url: str
) -> None:
    await trained(plane, "a")

    def promoted(session: Session) -> None:
        plane.outbox.add(session, release(session, session.get_one(AdapterRow, "a"), "promote", plane.clock()))

    async with held(database_url, promoted):
        begun = asyncio.create_task(begin(plane, "a"))
        await waits(plane.database)
    with pytest.raises(NotPossible, match="a answers already"):
        await begun
