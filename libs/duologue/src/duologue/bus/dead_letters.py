"""Listing, showing and replaying what could not be worked with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace

from duologue.bus.record import Bus, Delivery, Record
from duologue.bus.worker import ATTEMPT, DEADLINE, FAILED_AT, ORIGIN, REASON, number_in
from duologue.contracts.topics import TOPICS

# Ids of letters that were replayed, as keys.
REPLAYS = "duologue.dlq.replays.v1"


@dataclass(frozen=True)
class DeadLetter:
    """A record that was put aside, and why. `id` names it on the command line: topic/group/partition/offset."""

    id: str
    topic: str
    group: str
    key: str
    reason: str
    origin: str
    failed_at: float
    replayed: bool
    delivery: Delivery


async def dead_letters(bus: Bus) -> AsyncIterator[DeadLetter]:
    """All dead letters of all topics and groups, oldest first within each."""
    existing = set(await bus.topics())
    replayed = await _replayed(bus)
    for topic in TOPICS:
        for group in topic.consumers:
            name = topic.dead_letters(group)
            if name not in existing:
                continue
            async for delivery in bus.read(name):
                letter_id = f"{topic.name}/{group}/{delivery.partition}/{delivery.offset}"
                headers = delivery.record.headers
                yield DeadLetter(
                    id=letter_id,
                    topic=topic.name,
                    group=group,
                    key=delivery.record.key,
                    reason=headers.get(REASON, ""),
                    origin=headers.get(ORIGIN, ""),
                    failed_at=number_in(headers, FAILED_AT, 0.0),
                    replayed=letter_id in replayed,
                    delivery=delivery,
                )


async def replay(bus: Bus, letters: Iterable[DeadLetter]) -> int:
    """Give dead letters to their groups again, except those that were; how many it gave."""
    replayed = await _replayed(bus)
    given = 0
    for letter in letters:
        if letter.id not in replayed:
            await bus.publish([_again(letter), Record(REPLAYS, letter.id, b"")])
            replayed.add(letter.id)
            given += 1
    return given


def _again(letter: DeadLetter) -> Record:
    aside = (ATTEMPT, DEADLINE, REASON, FAILED_AT)
    headers = {name: value for name, value in letter.delivery.record.headers.items() if name not in aside}
    return replace(
        letter.delivery.record,
        # The group's own retry topic: other groups that read the origin have no business with it.
        topic=next(topic for topic in TOPICS if topic.name == letter.topic).retry(letter.group),
        headers=headers,
    )


async def _replayed(bus: Bus) -> set[str]:
    """Ids of the letters that were replayed."""
    return {delivery.record.key async for delivery in bus.read(REPLAYS)}
