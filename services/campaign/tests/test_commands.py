"""Pausing, resuming and cancelling, at any point of a campaign."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from duologue.contracts.topics import CAMPAIGN_CANCELLED
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2
from duologue.runtime.errors import NotPossible
from duologue_campaign.tables import OUTBOX
from tests.support.campaign_world import World, without_times
from tests.support.control_plane import ControlPlane
from tests.support.desk import played

RUNNING, PAUSED, COMPLETED, CANCELLED = (
    pb.CAMPAIGN_STATE_RUNNING,
    pb.CAMPAIGN_STATE_PAUSED,
    pb.CAMPAIGN_STATE_COMPLETED,
    pb.CAMPAIGN_STATE_CANCELLED,
)
PHASES = [pb.ROUND_PHASE_GENERATING, pb.ROUND_PHASE_SEALING, pb.ROUND_PHASE_TRAINING, pb.ROUND_PHASE_EVALUATING]


async def pause(plane: ControlPlane, campaign_id: str) -> pb.Campaign:
    return (await plane.rpc.PauseCampaign(pb.PauseCampaignRequest(campaign=campaign_id), None)).campaign


async def resume(plane: ControlPlane, campaign_id: str) -> pb.Campaign:
    return (await plane.rpc.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign_id), None)).campaign


async def cancel(plane: ControlPlane, campaign_id: str) -> pb.Campaign:
    return (await plane.rpc.CancelCampaign(pb.CancelCampaignRequest(campaign=campaign_id), None)).campaign


async def test_a_paused_campaign_takes_what_is_out_and_asks_for_no_more(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=6, concurrency=2)
    assert (await pause(plane, campaign_id)).state == PAUSED
    for request in await plane.asked(events_pb2.DialogueRequested):
        await plane.events.scored(played(request))
    campaign = await plane.campaign(campaign_id)
    assert campaign.history[0].scored == 2
    assert len(await plane.asked(events_pb2.DialogueRequested)) == 2
    assert (await resume(plane, campaign_id)).state == RUNNING
    assert len(await plane.asked(events_pb2.DialogueRequested)) == 4


@pytest.mark.parametrize("phase", PHASES, ids=pb.RoundPhase.Name)
async def test_a_pause_in_any_phase_changes_nothing_of_the_end(plane: ControlPlane, phase: int) -> None:
    undisturbed = await World(
        plane, await plane.create(campaign="other", dialogues=3, evaluation={"dialogues": 2})
    ).run()
    campaign_id = await plane.create(campaign="desk", dialogues=3, evaluation={"dialogues": 2})
    world = World(plane, campaign_id)
    await world.run(lambda campaign: campaign.history[-1].phase == phase)
    await pause(plane, campaign_id)
    await world.run()
    assert (await plane.campaign(campaign_id)).state == PAUSED
    assert not (await plane.campaign(campaign_id)).finished_at
    await resume(plane, campaign_id)
    campaign = await world.run()
    assert campaign.state == COMPLETED
    for it in (campaign, undisturbed):
        it.name = it.spec_yaml = it.spec_version = ""
        for round_ in it.history:
            round_.dataset_id = round_.adapter_id = round_.evaluation.adapter_id = ""
    assert without_times(campaign) == without_times(undisturbed)


async def test_pausing_and_resuming_twice_is_fine(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    asked = len(await plane.asked(events_pb2.DialogueRequested))
    for _ in range(2):
        assert (await pause(plane, campaign_id)).state == PAUSED
    for _ in range(2):
        assert (await resume(plane, campaign_id)).state == RUNNING
    assert len(await plane.asked(events_pb2.DialogueRequested)) == asked


@pytest.mark.parametrize("phase", PHASES, ids=pb.RoundPhase.Name)
async def test_a_cancelled_campaign_ends_at_once_and_asks_for_nothing_more(plane: ControlPlane, phase: int) -> None:
    campaign_id = await plane.create(dialogues=3)
    world = World(plane, campaign_id)
    await world.run(lambda campaign: campaign.history[-1].phase == phase)
    campaign = await cancel(plane, campaign_id)
    assert (campaign.state, campaign.reason) == (CANCELLED, "cancelled")
    assert campaign.finished_at
    asked = len(await plane.asked(events_pb2.DialogueRequested))
    trainings = len(await plane.asked(events_pb2.TrainingRequested))
    after = await world.run()
    assert (after.state, after.history[-1].phase) == (CANCELLED, phase)
    assert len(await plane.asked(events_pb2.DialogueRequested)) == asked
    assert len(await plane.asked(events_pb2.TrainingRequested)) == trainings


async def test_an_adapter_whose_training_ended_after_the_campaign_was_cancelled_can_be_promoted(
    plane: ControlPlane,
) -> None:
    campaign_id = await plane.create(dialogues=3)
    world = World(plane, campaign_id)
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_TRAINING)
    await cancel(plane, campaign_id)
    await world.run()
    (adapter,) = (await plane.rpc.ListAdapters(pb.ListAdaptersRequest(), None)).adapters
    assert adapter.state == "candidate"
    promoted = await plane.rpc.PromoteAdapter(pb.PromoteAdapterRequest(adapter=adapter.ref.id), None)
    assert promoted.adapter.state == "released"


async def test_a_paused_campaign_can_be_cancelled_and_cancelling_twice_is_fine(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    await pause(plane, campaign_id)
    first = await cancel(plane, campaign_id)
    plane.clock.now += 100
    assert (await cancel(plane, campaign_id)).finished_at == first.finished_at


async def test_a_cancellation_is_told_once_to_those_who_ask_models_and_after_all_that_was_asked_for(
    plane: ControlPlane,
) -> None:
    other = await plane.create("other")
    await pause(plane, other)
    await resume(plane, other)
    campaign_id = await plane.create()
    for _ in range(2):
        await cancel(plane, campaign_id)
    (told,) = await plane.asked(events_pb2.CampaignCancelled)
    assert told.campaign_id == campaign_id
    assert told.cancelled_at == (await plane.campaign(campaign_id)).finished_at
    rows = await plane.database.run(lambda session: session.execute(select(OUTBOX).order_by(OUTBOX.c.id)).all())
    assert rows[-1].topic == CAMPAIGN_CANCELLED.name


async def test_a_cancelled_campaign_does_not_miss_the_dialogues_that_never_come_back(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    await cancel(plane, campaign_id)
    before = await plane.campaign(campaign_id)
    asked = len(await plane.asked(events_pb2.DialogueRequested))
    driver = plane.driver(reissue_seconds=600, reissues=1)
    for _ in range(4):
        plane.clock.now += 700
        await driver.look()
    assert await plane.campaign(campaign_id) == before
    assert len(await plane.asked(events_pb2.DialogueRequested)) == asked


async def test_what_is_over_stays_over(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=2)
    await World(plane, campaign_id).run()
    for command in (pause, resume, cancel):
        with pytest.raises(NotPossible, match=f"campaign desk \\({campaign_id[:8]}\\) is completed"):
            await command(plane, campaign_id)
    cancelled = await plane.create()
    await cancel(plane, cancelled)
    for command in (pause, resume):
        with pytest.raises(NotPossible, match="is cancelled"):
            await command(plane, cancelled)
