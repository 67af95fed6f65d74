"""Dialogues that stay away are asked for again, then given up; where that leads nowhere, a person is waited for."""

from __future__ import annotations

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane
from tests.support.desk import played


async def phase(plane: ControlPlane, campaign_id: str) -> int:
    return (await plane.campaign(campaign_id)).history[-1].phase


async def count(plane: ControlPlane) -> int:
    return len(await plane.asked(events_pb2.DialogueRequested))


async def test_dialogues_that_stay_away_are_asked_for_again_and_only_those(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    requests = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(requests[1]))
    driver = plane.driver(reissue_seconds=600, reissues=1)
    plane.clock.now += 601
    await driver.look()
    again = (await plane.asked(events_pb2.DialogueRequested))[4:]
    assert again == [requests[0], requests[2], requests[3]]
    assert (await plane.campaign(campaign_id)).state == pb.CAMPAIGN_STATE_RUNNING


async def test_while_dialogues_come_back_none_is_asked_for_again(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    requests = await plane.asked(events_pb2.DialogueRequested)
    driver = plane.driver(reissue_seconds=600)
    for request in requests[:3]:
        plane.clock.now += 599
        await plane.events.scored(played(request))
        await driver.look()
    assert await count(plane) == 4
    assert (await plane.campaign(campaign_id)).history[0].scored == 3


async def test_a_pause_is_no_standstill(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4, concurrency=2)
    driver = plane.driver(reissue_seconds=600)
    await plane.rpc.PauseCampaign(pb.PauseCampaignRequest(campaign=campaign_id), None)
    for request in await plane.asked(events_pb2.DialogueRequested):
        await plane.events.scored(played(request))
    plane.clock.now += 10_000
    await plane.rpc.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign_id), None)
    await driver.look()
    assert await count(plane) == 4
    plane.clock.now += 601
    await driver.look()
    assert await count(plane) == 6


async def test_time_in_which_the_service_was_down_is_no_standstill(plane: ControlPlane) -> None:
    await plane.create()
    plane.clock.now += 10_000
    driver = plane.driver(reissue_seconds=600)
    await driver.look()
    assert await count(plane) == 4
    plane.clock.now += 601
    await driver.look()
    assert await count(plane) == 8


async def test_after_enough_tries_the_round_goes_on_with_what_is_there(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    requests = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(requests[0]))
    driver = plane.driver(reissue_seconds=600, reissues=2)
    for _ in range(3):
        assert await phase(plane, campaign_id) == pb.ROUND_PHASE_GENERATING
        plane.clock.now += 601
        await driver.look()
    assert await phase(plane, campaign_id) == pb.ROUND_PHASE_SEALING
    campaign = await plane.campaign(campaign_id)
    assert await count(plane) == 4 + 2 * 3
    assert campaign.history[0].candidates == 1
    assert campaign.reason == "round 1 goes on without 3 dialogues: see `duologue dlq list`"
    # one that comes after all is in the books, but no part of the round's figures
    await plane.events.scored(played(requests[1]))
    late = await plane.campaign(campaign_id)
    assert (late.history[0].candidates, late.prompt_tokens) == (1, campaign.prompt_tokens + 70)


async def test_when_none_comes_back_the_campaign_waits_for_a_person_who_can_go_on(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    campaign = await plane.campaign(campaign_id)
    assert campaign.state == pb.CAMPAIGN_STATE_PAUSED
    assert campaign.reason == (
        "round 1 stands still: none of the dialogues that are out comes back. See why with `duologue dlq list`, "
        f"then go on with `duologue campaign resume {campaign_id[:8]}`"
    )
    assert not campaign.finished_at
    await plane.rpc.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign_id), None)
    requests = await plane.asked(events_pb2.DialogueRequested)
    assert requests[4:] == requests[:4]
    for request in requests[:4]:
        await plane.events.scored(played(request))
    campaign = await plane.campaign(campaign_id)
    assert (campaign.history[0].candidates, campaign.reason) == (4, "")


async def test_lost_dialogues_cost_no_others(plane: ControlPlane) -> None:
    """As many are lost as may be out at once, and still all others are asked for."""
    campaign_id = await plane.create(dialogues=40, concurrency=4)
    driver = plane.driver(reissue_seconds=600, reissues=1)
    lost = {0, 1, 17, 18, 19, 20}
    answered: set[int] = set()
    while await phase(plane, campaign_id) == pb.ROUND_PHASE_GENERATING:
        for request in await plane.asked(events_pb2.DialogueRequested):
            if request.index not in answered | lost:
                answered.add(request.index)
                await plane.events.scored(played(request))
        assert await plane.out(campaign_id) <= 4
        plane.clock.now += 601
        await driver.look()
    campaign = await plane.campaign(campaign_id)
    assert (campaign.state, campaign.history[0].candidates) == (pb.CAMPAIGN_STATE_RUNNING, 34)
    assert campaign.reason == "round 1 goes on without 6 dialogues: see `duologue dlq list`"


async def test_every_window_has_all_its_tries(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=8, concurrency=1)
    driver = plane.driver(reissue_seconds=600, reissues=2)

    async def tries_of(index: int) -> int:
        return sum(request.index == index for request in await plane.asked(events_pb2.DialogueRequested))

    for index in range(8):
        assert await tries_of(index) == 1
        if index % 2:
            request = (await plane.asked(events_pb2.DialogueRequested))[-1]
            await plane.events.scored(played(request))
            continue
        for _ in range(3):
            plane.clock.now += 601
            await driver.look()
        assert await tries_of(index) == 3
    assert (await plane.campaign(campaign_id)).history[0].candidates == 4


async def test_when_window_after_window_stands_still_the_campaign_waits_before_all_is_lost(
    plane: ControlPlane,
) -> None:
    campaign_id = await plane.create(dialogues=100, concurrency=4)
    await plane.events.scored(played((await plane.asked(events_pb2.DialogueRequested))[0]))
    driver = plane.driver(reissue_seconds=600, reissues=0)
    for _ in range(5):
        plane.clock.now += 601
        await driver.look()
    campaign = await plane.campaign(campaign_id)
    assert campaign.state == pb.CAMPAIGN_STATE_PAUSED
    assert campaign.history[0].lost == 4


async def test_a_lost_dialogue_that_comes_while_its_round_goes_on_is_lost_no_more(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=6, concurrency=4)
    requests = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(requests[0]))
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    assert (await plane.campaign(campaign_id)).history[0].lost == 4
    await plane.events.scored(played(requests[1]))
    round_ = (await plane.campaign(campaign_id)).history[0]
    assert (round_.scored, round_.lost) == (2, 3)
    for request in (await plane.asked(events_pb2.DialogueRequested))[2:]:
        await plane.events.scored(played(request))
    campaign = await plane.campaign(campaign_id)
    assert (campaign.history[0].candidates, campaign.reason) == (6, "")


async def test_what_a_round_went_without_is_still_told_when_the_campaign_is_over(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    world = World(plane, campaign_id)
    await world.look()
    for event in world.pending[:3]:
        await world.tell(event)
    world.pending.clear()
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    campaign = await world.run()
    assert campaign.state == pb.CAMPAIGN_STATE_COMPLETED
    assert campaign.reason == "round 1 goes on without 1 dialogue: see `duologue dlq list`"


async def test_evaluation_goes_on_with_the_pairs_that_are_complete(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=2, concurrency=8, evaluation={"dialogues": 4})
    world = World(plane, campaign_id)
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_EVALUATING)
    await world.look()
    for event in world.pending[:5]:
        await world.tell(event)
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    campaign = await plane.campaign(campaign_id)
    assert campaign.finished_at
    assert campaign.reason == "round 1 goes on without 3 evaluation dialogues: see `duologue dlq list`"
    (round_,) = campaign.history
    assert {item.pairs for item in round_.evaluation.comparisons} == {2}
