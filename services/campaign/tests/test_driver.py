"""What the clock drives: datasets are ordered until they are there, and what stands still waits for a person."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2, filtering_pb2_grpc, training_pb2, training_pb2_grpc
from duologue.store import Term
from duologue_campaign.progress import TrainingProgress
from duologue_campaign.tables import CampaignRow
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane, RecordingFiltering
from tests.support.desk import played
from tests.support.eventually import eventually
from tests.support.grpc_server import serving


@contextlib.asynccontextmanager
async def driving(plane: ControlPlane, stub: Any = None, **settings: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(plane.driver(stub, **settings).run(Term()))
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


async def stands(plane: ControlPlane, campaign_id: str) -> tuple[int, str]:
    campaign = await plane.campaign(campaign_id)
    return campaign.state, campaign.reason


async def test_a_dataset_that_does_not_come_pauses_the_campaign_and_is_ordered_again_after_it(
    plane: ControlPlane, filtering: RecordingFiltering, stub: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    campaign_id = await plane.create(dialogues=1)
    await plane.events.scored(played((await plane.asked(events_pb2.DialogueRequested))[0]))
    driver = plane.driver(stub, reissue_seconds=600, reissues=1)
    for _ in range(2):
        assert (await stands(plane, campaign_id))[0] == pb.CAMPAIGN_STATE_RUNNING
        plane.clock.now += 601
        await driver.look()
    state, reason = await stands(plane, campaign_id)
    assert state == pb.CAMPAIGN_STATE_PAUSED
    assert reason.startswith("round 1 stands still: filtering does not answer with the dataset. ")
    ordered = len(filtering.orders)
    await driver.look()
    assert len(filtering.orders) == ordered
    await plane.rpc.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign_id), None)
    await driver.look()
    assert len(filtering.orders) == ordered + 1
    assert await stands(plane, campaign_id) == (pb.CAMPAIGN_STATE_RUNNING, "")


@pytest.mark.parametrize("status", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION])
async def test_an_order_that_filtering_refuses_for_good_pauses_the_campaign_with_its_words(
    plane: ControlPlane,
    filtering: RecordingFiltering,
    stub: filtering_pb2_grpc.FilteringServiceStub,
    status: grpc.StatusCode,
) -> None:
    filtering.fails, filtering.status = 1, status
    campaign_id = await plane.create(dialogues=1)
    await plane.events.scored(played((await plane.asked(events_pb2.DialogueRequested))[0]))
    await plane.driver(stub).look()
    name = f"desk-r1-{campaign_id[:8]}"
    assert await stands(plane, campaign_id) == (
        pb.CAMPAIGN_STATE_PAUSED,
        f"filtering refuses dataset {name}: not now",
    )


async def test_a_training_that_neither_gets_on_nor_ends_pauses_the_campaign_and_is_ordered_again_after_it(
    plane: ControlPlane,
) -> None:
    campaign_id = await plane.create(dialogues=1)
    world = World(plane, campaign_id)
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_TRAINING)
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    state, reason = await stands(plane, campaign_id)
    assert state == pb.CAMPAIGN_STATE_PAUSED
    assert reason.startswith("round 1 stands still: the training neither gets on nor ends. See why with `duologue dlq")
    await plane.rpc.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign_id), None)
    first, second = await plane.asked(events_pb2.TrainingRequested)
    assert first == second
    assert (await world.run()).state == pb.CAMPAIGN_STATE_COMPLETED


async def test_a_training_that_gets_on_in_any_copy_does_not_stand_still(plane: ControlPlane) -> None:
    training = StepwiseTraining()
    register = training_pb2_grpc.add_TrainingServiceServicer_to_server
    campaign_id = await plane.create(dialogues=1)
    await World(plane, campaign_id).run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_TRAINING)
    async with serving(register, training) as address, grpc.aio.insecure_channel(address) as channel:
        silent = grpc.aio.insecure_channel("127.0.0.1:9")
        plane.progress = TrainingProgress([training_pb2_grpc.TrainingServiceStub(one) for one in (silent, channel)])
        driver = plane.driver(reissue_seconds=600, reissues=0)
        for _ in range(3):
            training.step += 1
            plane.clock.now += 601
            await driver.look()
            assert (await stands(plane, campaign_id))[0] == pb.CAMPAIGN_STATE_RUNNING
        plane.clock.now += 601
        await driver.look()
        assert (await stands(plane, campaign_id))[0] == pb.CAMPAIGN_STATE_PAUSED


async def test_a_training_that_waits_for_its_place_in_the_cluster_does_not_stand_still(plane: ControlPlane) -> None:
    training = StepwiseTraining()
    training.stage = "waiting"
    register = training_pb2_grpc.add_TrainingServiceServicer_to_server
    campaign_id = await plane.create(dialogues=1)
    await World(plane, campaign_id).run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_TRAINING)
    async with serving(register, training) as address, grpc.aio.insecure_channel(address) as channel:
        plane.progress = TrainingProgress([training_pb2_grpc.TrainingServiceStub(channel)])
        driver = plane.driver(reissue_seconds=600, reissues=0)
        for _ in range(3):
            plane.clock.now += 601
            await driver.look()
            assert (await stands(plane, campaign_id))[0] == pb.CAMPAIGN_STATE_RUNNING


async def test_a_campaign_that_can_not_be_read_is_paused_with_the_error_and_the_others_go_on(
    plane: ControlPlane, filtering: RecordingFiltering, stub: filtering_pb2_grpc.FilteringServiceStub
) -> None:
    broken, sound = [await plane.create(dialogues=1) for _ in range(2)]
    for request in await plane.asked(events_pb2.DialogueRequested):
        await plane.events.scored(played(request))

    def break_it(session: Session) -> None:
        session.get_one(CampaignRow, broken).spec = {"name": "old.yaml", "text": "campaign: desk"}

    await plane.database.run(break_it)
    plane.specs._kept.clear()  # as after a start of the service
    await plane.driver(stub).look()
    assert {order.campaign_id for order in filtering.orders} == {sound}
    state, reason = await stands(plane, broken)
    assert state == pb.CAMPAIGN_STATE_PAUSED
    assert reason.startswith("InvalidInput: old.yaml:1: ")


async def test_a_budget_of_time_that_is_spent_while_nothing_comes_ends_the_campaign(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=4, budget={"seconds": 100})
    driver = plane.driver(reissue_seconds=600, reissues=2)
    plane.clock.now += 601
    await driver.look()
    campaign = await plane.campaign(campaign_id)
    assert campaign.state == pb.CAMPAIGN_STATE_COMPLETED
    assert campaign.reason.startswith("budget spent: 601 of 100 seconds")
    assert len(await plane.asked(events_pb2.DialogueRequested)) == 4


class StepwiseTraining(training_pb2_grpc.TrainingServiceServicer):
    """An imitation of the training service with one training, at `step` of `stage`."""

    step = 0
    stage = "training"

    async def ListTrainings(  # noqa: N802
        self, request: training_pb2.ListTrainingsRequest, context: Any
    ) -> training_pb2.ListTrainingsResponse:
        progress = training_pb2.TrainingProgress(training_id="another", stage=self.stage, step=self.step, steps=9)
        return training_pb2.ListTrainingsResponse(trainings=[progress])
