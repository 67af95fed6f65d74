"""Topics promise no order between each other, and may tell a thing twice. The campaign comes out the same."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duologue.bus import Poison, Transient
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.v1 import campaign_pb2, events_pb2
from duologue.runtime.failures import classify_errors
from tests.support.campaign_world import World, without_times
from tests.support.control_plane import ControlPlane, fleeting_control_plane
from tests.support.desk import dialogue, played, scored

SPEC = {"dialogues": 5, "concurrency": 3, "rounds": 2, "evaluation": {"dialogues": 20}}


async def play(folder: Path, draw: st.DataObject | None) -> tuple[campaign_pb2.Campaign, list[str]]:
    """A whole campaign, its events told in the drawn order and some of them again; in order without a draw."""
    bus = await EmbeddedBus.open(folder / "bus.db")
    async with fleeting_control_plane(folder, bus) as plane:
        world = World(plane, await plane.create(**SPEC))
        while True:
            await world.look()
            assert await plane.out(world.campaign_id) <= 3
            if not world.pending:
                break
            if draw is None:
                await world.tell(world.pending.pop(0))
                continue
            if world.told and draw.draw(st.booleans(), label="again"):
                again = draw.draw(st.integers(0, len(world.told) - 1), label="which again")
                await world.tell(world.told[again])
            choice = draw.draw(st.integers(0, len(world.pending) - 1), label="which")
            await world.tell(world.pending.pop(choice))
        campaign = await plane.campaign(world.campaign_id)
        requests = await plane.asked(events_pb2.DialogueRequested)
        trainings = await plane.asked(events_pb2.TrainingRequested)
        releases = await plane.asked(events_pb2.AdapterReleased)
    await bus.close()
    asked = [
        *(f"{request.round} {request.split} {request.index}" for request in requests),
        *(f"train {training.round} on {len(training.datasets)}" for training in trainings),
        *(f"release {release.adapter.id.partition('-r')[2][0]}" for release in releases),
    ]
    assert len(asked) == len(set(asked))
    return campaign, sorted(asked)


@pytest.fixture(scope="module")
def in_order() -> tuple[campaign_pb2.Campaign, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(play(Path(folder), None))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(draw=st.data())
def test_in_whatever_order_and_however_often_events_come_the_campaign_ends_the_same(
    in_order: tuple[campaign_pb2.Campaign, list[str]], draw: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        campaign, asked = asyncio.run(play(Path(folder), draw))
    expected, expected_asked = in_order
    assert without_times(campaign) == without_times(expected)
    assert asked == expected_asked


def test_a_campaign_in_order_releases_twice(in_order: tuple[campaign_pb2.Campaign, list[str]]) -> None:
    campaign, asked = in_order
    assert campaign.state == campaign_pb2.CAMPAIGN_STATE_COMPLETED
    assert len(asked) == 2 * (5 + 40 + 1 + 1)


async def test_a_decision_that_overtakes_its_dialogue_waits_for_it(plane: ControlPlane) -> None:
    """A dialogue that comes after its round went on without it is told of by filtering too, maybe earlier."""
    campaign_id = await plane.create(dialogues=2)
    first, late = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(first))
    decision = events_pb2.DialogueFiltered(dialogue_id=late.dialogue_id, campaign_id=campaign_id, round=1, kept=True)
    with pytest.raises(Transient, match=late.dialogue_id):
        await plane.events.filtered(decision)
    await plane.events.scored(played(late))
    await plane.events.filtered(decision)
    assert (await plane.campaign(campaign_id)).history[0].kept == 1


async def test_a_dialogue_that_can_not_be_read_is_not_counted(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    event = scored(dialogue(campaign_id=campaign_id))
    event.dialogue.turns[0].role = 0
    with pytest.raises(Poison, match="unknown role 0"), classify_errors():
        await plane.events.scored(event)
    assert (await plane.campaign(campaign_id)).history[0].scored == 0
