"""What the clock drives: datasets are ordered until they are there, and what stays away is asked for again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2, filtering_pb2_grpc
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane, RecordingFiltering
from tests.support.desk import played
from tests.support.eventually import eventually
from tests.support.grpc_server import serving


@pytest.fixture
def filtering() -> RecordingFiltering:
    return RecordingFiltering()


@pytest.fixture
async def stub(filtering: RecordingFiltering) -> AsyncIterator[filtering_pb2_grpc.FilteringServiceStub]:
    register = filtering_pb2_grpc.add_FilteringServiceServicer_to_server
    async with serving(register, filtering) as address, grpc.aio.insecure_channel(address) as channel:
        yield filtering_pb2_grpc.FilteringServiceStub(channel)


@contextlib.asynccontextmanager
async def driving(plane: ControlPlane, stub: Any = None, **settings: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(plane.driver(stub, **settings).run())
    try:
        yield
    finally:
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, asyncio.CancelledError)


async def soon(plane: ControlPlane, claim: Callable[[], Awaitable[Any]], what: str) -> None:
    """The driver looks after every change: tell it that there is one until the claim holds."""

    async def told() -> Any:
        plane.changes.tell()
        return await claim()

    await eventually(told, what)


async def phase(plane: ControlPlane, campaign_id: str) -> int:
    return (await plane.campaign(campaign_id)).history[-1].phase


async def count(plane: ControlPlane) -> int:
    return len(await plane.asked(events_pb2.DialogueRequested))


async def test_a_round_whose_dialogues_are_all_there_is_ordered_to_be_sealed(
    plane: ControlPlane, filtering: RecordingFiltering, stub: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    campaign_id = await plane.create(filters=[{"kind": "top", "share": 0.5}])
    world = World(plane, campaign_id)
    async with driving(plane, stub):
        await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_SEALING)

        async def ordered() -> bool:
            return bool(filtering.orders)

        await soon(plane, ordered, "filtering got the order")
    order = filtering.orders[0]
    assert (order.dataset_id, order.campaign_id, order.round) == (f"desk-r1-{campaign_id[:8]}", campaign_id, 1)
    assert (order.candidates, order.seed) == (6, 3)
    assert filtering.filters[0] == [{"kind": "top", "metric": "subgoals_relative", "share": 0.5}]


async def test_an_order_is_repeated_until_the_dataset_is_there_and_not_after(
    plane: ControlPlane, filtering: RecordingFiltering, stub: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    filtering.fails = 2
    world = World(plane, await plane.create())
    async with driving(plane, stub):
        await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_SEALING)

        async def repeated() -> bool:
            return len(filtering.orders) >= 4

        await soon(plane, repeated, "the order was repeated")
        assert len({order.SerializeToString() for order in filtering.orders}) == 1
        await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_TRAINING)
        orders = len(filtering.orders)
        plane.changes.tell()
        await world.run()
    assert len(filtering.orders) <= orders + 1  # one may have been on its way


async def test_a_paused_campaign_orders_nothing(
    plane: ControlPlane, filtering: RecordingFiltering, stub: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    campaign_id = await plane.create(dialogues=1)
    await plane.rpc.PauseCampaign(pb.PauseCampaignRequest(campaign=campaign_id), None)
    other = await plane.create(dialogues=1)
    for request in await plane.asked(events_pb2.DialogueRequested):
        await plane.events.scored(played(request))
    async with driving(plane, stub):

        async def ordered() -> bool:
            return bool(filtering.orders)

        await soon(plane, ordered, "filtering got the other's order")
        assert {order.campaign_id for order in filtering.orders} == {other}
        await plane.rpc.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign_id), None)

        async def both() -> bool:
            return {order.campaign_id for order in filtering.orders} == {campaign_id, other}

        await soon(plane, both, "the resumed campaign's order came too")


async def test_dialogues_that_stay_away_are_asked_for_again_and_only_those(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    requests = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(requests[1]))
    async with driving(plane, reissue_seconds=600, reissues=1):
        plane.clock.now += 601

        async def reissued() -> bool:
            return await count(plane) > 4

        await soon(plane, reissued, "the missing ones were asked for again")
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
        assert not await plane.database.run(driver._reissue)
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
    assert await count(plane) == 4
    assert not await plane.database.run(driver._reissue)
    plane.clock.now += 601
    assert await plane.database.run(driver._reissue)


async def test_time_in_which_the_service_was_down_is_no_standstill(plane: ControlPlane) -> None:
    await plane.create()
    plane.clock.now += 10_000
    driver = plane.driver(reissue_seconds=600)
    assert not await plane.database.run(driver._reissue)
    plane.clock.now += 601
    assert await plane.database.run(driver._reissue)


async def test_after_enough_tries_the_round_goes_on_with_what_is_there(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    requests = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(requests[0]))
    async with driving(plane, reissue_seconds=600, reissues=2):

        async def went_on() -> bool:
            plane.clock.now += 601
            return await phase(plane, campaign_id) == pb.ROUND_PHASE_SEALING

        await soon(plane, went_on, "the round went on")
    campaign = await plane.campaign(campaign_id)
    assert await count(plane) == 4 + 2 * 3
    assert campaign.history[0].candidates == 1
    assert campaign.reason == "round 1 goes on without 3 dialogues: see `duologue dlq list`"
    # one that comes after all is in the books, but no part of the round's figures
    await plane.events.scored(played(requests[1]))
    late = await plane.campaign(campaign_id)
    assert (late.history[0].candidates, late.prompt_tokens) == (1, campaign.prompt_tokens + 70)


async def test_when_none_comes_back_the_campaign_fails(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4)
    async with driving(plane, reissue_seconds=600, reissues=0):

        async def failed() -> bool:
            plane.clock.now += 601
            return (await plane.campaign(campaign_id)).state == pb.CAMPAIGN_STATE_FAILED

        await soon(plane, failed, "the campaign failed")
    campaign = await plane.campaign(campaign_id)
    assert campaign.reason == "none of the 4 dialogues of round 1 came back"
    assert campaign.finished_at


async def test_evaluation_goes_on_with_the_pairs_that_are_complete(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=2, concurrency=8)
    world = World(plane, campaign_id)
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_EVALUATING)
    await world.look()
    for event in world.pending[:5]:
        await world.tell(event)
    async with driving(plane, reissue_seconds=600, reissues=0):

        async def over() -> bool:
            plane.clock.now += 601
            return bool((await plane.campaign(campaign_id)).finished_at)

        await soon(plane, over, "the campaign ended")
    (round_,) = (await plane.campaign(campaign_id)).history
    assert {item.pairs for item in round_.evaluation.comparisons} == {2}
