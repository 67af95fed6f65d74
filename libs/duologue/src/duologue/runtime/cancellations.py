"""Campaigns that were cancelled, as every replica of a service hears of them: no model is to be asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from duologue.bus import Bus, Delivery, Poison, Record
from duologue.bus.codec import decode
from duologue.contracts.topics import CAMPAIGN_CANCELLED
from duologue.contracts.v1 import events_pb2

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=Message)

# Those that were cancelled last; what is still queued is of these.
_MOST_CAMPAIGNS = 10_000


class Cancellations:
    """Follows what is cancelled. `known` is set once all is heard that was cancelled before."""

    def __init__(self, bus: Bus) -> None:
        self.known = asyncio.Event()
        self._heard = asyncio.Event()
        self._bus = bus
        self._campaigns: dict[str, None] = {}
        self._told: list[Callable[[], None]] = []

    def among(self, message: type[M], campaign_of: Callable[[M], str]) -> Callable[[Record], bool]:
        """Tells of a record that holds such a message whether its campaign was cancelled.

        The record is read only as far as that: what is wrong with it is its handler's to say.
        """

        def is_cancelled(record: Record) -> bool:
            if not self._campaigns:
                return False
            try:
                return campaign_of(message.FromString(record.value)) in self._campaigns
            except DecodeError:
                return False

        return is_cancelled

    def tell(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever campaigns were cancelled."""
        self._told.append(listener)

    async def until_cancelled(self, campaign_id: str) -> None:
        """Returns when the campaign is cancelled, at once if it was before."""
        while campaign_id not in self._campaigns:
            await self._heard.wait()

    async def follow(self) -> None:
        """Until cancelled. Raises what following the topic raises."""
        async with aclosing(self._bus.follow(CAMPAIGN_CANCELLED.name)) as batches:
            async for batch in batches:
                self._hear(batch)
                self.known.set()

    def _hear(self, batch: Sequence[Delivery]) -> None:
        heard = 0
        for delivery in batch:
            try:
                event = decode(events_pb2.CampaignCancelled, delivery.record)
            except Poison as error:
                log.error("cancellation not understood", place=delivery.place, reason=str(error))
                continue
            heard += 1
            self._campaigns[event.campaign_id] = None
        while len(self._campaigns) > _MOST_CAMPAIGNS:
            del self._campaigns[next(iter(self._campaigns))]
        if heard:
            log.info("campaigns cancelled", count=heard)
            self._heard.set()
            self._heard = asyncio.Event()
            for listener in self._told:
                listener()
