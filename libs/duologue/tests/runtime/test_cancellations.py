"""What a process knows of campaigns that were cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from pathlib import Path

import pytest

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import CAMPAIGN_CANCELLED, DIALOGUE_GENERATED, DIALOGUE_REQUESTED
from duologue.contracts.v1 import events_pb2
from duologue.runtime import cancellations as module
from duologue.runtime.cancellations import Cancellations
from tests.support.desk import CAMPAIGN_ID, dialogue, generated, requested
from tests.support.eventually import eventually
from tests.support.mutation import Mutator

PATIENCE_SECONDS = 20.0
OTHER = "5d0f6d6e-0000-5a55-8d7e-0f2f4a0f5a11"


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


def cancelled(campaign_id: str) -> Record:
    event = events_pb2.CampaignCancelled(campaign_id=campaign_id, cancelled_at="2026-01-01T00:00:00Z")
    return encode(CAMPAIGN_CANCELLED, event, "test")


def request_of(campaign_id: str) -> Record:
    return encode(DIALOGUE_REQUESTED, requested(campaign_id=campaign_id), "test")


@asynccontextmanager
async def followed(bus: EmbeddedBus) -> AsyncIterator[Cancellations]:
    """What is known, once what was cancelled before is."""
    cancellations = Cancellations(bus)
    following = asyncio.create_task(cancellations.follow())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await cancellations.known.wait()
    yield cancellations
    assert not following.done()
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_what_was_cancelled_before_is_known_from_the_beginning(bus: EmbeddedBus) -> None:
    await bus.publish([cancelled(CAMPAIGN_ID)])
    async with followed(bus) as cancellations:
        is_cancelled = cancellations.among(events_pb2.DialogueRequested, attrgetter("campaign_id"))
        assert is_cancelled(request_of(CAMPAIGN_ID))
        assert not is_cancelled(request_of(OTHER))


async def test_what_is_cancelled_now_is_told_by_every_process_that_follows(bus: EmbeddedBus, tmp_path: Path) -> None:
    other_process = await EmbeddedBus.open(tmp_path / "bus.db")
    async with followed(bus) as first, followed(other_process) as second:
        told = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
        for cancellations, event in zip((first, first, second), told, strict=True):
            cancellations.tell(event.set)
        await bus.publish([cancelled(CAMPAIGN_ID)])
        async with asyncio.timeout(PATIENCE_SECONDS):
            for event in told:
                await event.wait()
        for cancellations in (first, second):
            is_cancelled = cancellations.among(events_pb2.DialogueRequested, attrgetter("campaign_id"))
            assert is_cancelled(request_of(CAMPAIGN_ID))
    await other_process.close()


async def test_the_campaign_of_a_record_is_found_wherever_it_stands_in_its_message(bus: EmbeddedBus) -> None:
    await bus.publish([cancelled(CAMPAIGN_ID)])
    async with followed(bus) as cancellations:
        is_cancelled = cancellations.among(events_pb2.DialogueGenerated, attrgetter("dialogue.campaign_id"))
        assert is_cancelled(encode(DIALOGUE_GENERATED, generated(dialogue()), "test"))
        assert not is_cancelled(encode(DIALOGUE_GENERATED, generated(dialogue(campaign_id=OTHER)), "test"))


async def test_a_record_that_can_not_be_read_is_left_to_its_handler(bus: EmbeddedBus) -> None:
    await bus.publish([cancelled(CAMPAIGN_ID)])
    async with followed(bus) as cancellations:
        is_cancelled = cancellations.among(events_pb2.DialogueRequested, attrgetter("campaign_id"))
        assert not is_cancelled(Record(DIALOGUE_REQUESTED.name, "key", b"\xff\xff"))


async def test_mutated_cancellations_are_passed_over_and_what_follows_is_heard(bus: EmbeddedBus) -> None:
    mutator = Mutator(CAMPAIGN_CANCELLED, [CAMPAIGN_CANCELLED.example], seed=20261130)
    await bus.publish([*mutator.records(300), cancelled(OTHER)])
    async with followed(bus) as cancellations:
        await bus.publish([*mutator.records(300), cancelled("after-the-storm")])
        is_cancelled = cancellations.among(events_pb2.DialogueRequested, attrgetter("campaign_id"))
        assert is_cancelled(request_of(OTHER))

        async def heard() -> bool:
            return is_cancelled(request_of("after-the-storm"))

        await eventually(heard, "what came after the storm is known", PATIENCE_SECONDS)


async def test_of_very_many_campaigns_those_that_were_cancelled_last_are_kept(
    bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_CAMPAIGNS", 3)
    await bus.publish([cancelled(f"campaign-{number}") for number in range(40)])
    async with followed(bus) as cancellations:
        is_cancelled = cancellations.among(events_pb2.DialogueRequested, attrgetter("campaign_id"))
        assert sum(is_cancelled(request_of(f"campaign-{number}")) for number in range(40)) == 3


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_who_waits_for_a_campaign_to_be_cancelled_hears_of_it_and_of_no_other(
    bus: EmbeddedBus, when: str
) -> None:
    if when == "before":
        await bus.publish([cancelled(CAMPAIGN_ID)])
    async with followed(bus) as cancellations, asyncio.timeout(PATIENCE_SECONDS):
        other = asyncio.create_task(cancellations.until_cancelled(OTHER))
        ours = asyncio.create_task(cancellations.until_cancelled(CAMPAIGN_ID))
        if when == "meanwhile":
            await asyncio.sleep(0)  # both wait now
            await bus.publish([cancelled(CAMPAIGN_ID)])
        await ours
        assert not other.done()
        other.cancel()
