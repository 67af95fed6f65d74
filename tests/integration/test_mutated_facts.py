"""Mutated messages on every topic that the campaign service reads, and campaigns that go on after them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from duologue.contracts.topics import DATASET_SEALED, DIALOGUE_FILTERED, DIALOGUE_SCORED, TRAINING_COMPLETED
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import events_pb2
from tests.support.barrage import Consumer, barrage
from tests.support.campaign_world import Event, World
from tests.support.control_plane import ControlPlane, control_plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with control_plane(tmp_path) as plane:
        yield plane


async def waiting_for(plane: ControlPlane, kind: type[Event], **spec: int) -> list[Event]:
    """A campaign that has come to where it hears of something: what it is to hear next, of one kind."""
    world = World(plane, await plane.create(**spec))
    await world.run(until=lambda _: any(isinstance(event, kind) for event in world.pending))
    return [event for event in world.pending if isinstance(event, kind)]


async def goes_on(plane: ControlPlane) -> None:
    """A new campaign runs to its end, whatever is in the tables beside it."""
    campaign_id = await plane.create("after the storm")
    campaign = await World(plane, campaign_id).run()
    assert campaign.state == pb.CAMPAIGN_STATE_COMPLETED
    assert campaign.history[0].evaluation.released


async def test_dialogues_that_were_scored(plane: ControlPlane) -> None:
    sound = await waiting_for(plane, events_pb2.DialogueScored, dialogues=10_000, concurrency=64)
    await barrage(plane.bus, [Consumer(DIALOGUE_SCORED, "campaign", plane.events.scored)], sound)
    await goes_on(plane)


async def test_dialogues_that_were_kept_or_dropped(plane: ControlPlane) -> None:
    sound = await waiting_for(plane, events_pb2.DialogueFiltered, dialogues=60)
    await barrage(plane.bus, [Consumer(DIALOGUE_FILTERED, "campaign", plane.events.filtered)], sound)
    await goes_on(plane)


async def test_datasets_that_were_sealed(plane: ControlPlane) -> None:
    sound = await waiting_for(plane, events_pb2.DatasetSealed)
    await barrage(plane.bus, [Consumer(DATASET_SEALED, "campaign", plane.events.sealed)], sound)
    await goes_on(plane)


async def test_trainings_that_ended(plane: ControlPlane) -> None:
    sound = await waiting_for(plane, events_pb2.TrainingCompleted)
    await barrage(plane.bus, [Consumer(TRAINING_COMPLETED, "campaign", plane.events.trained)], sound)
    await goes_on(plane)
