"""Following a topic without a group: every process that does hears every record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

from duologue.bus.kafka.records import delivery_of
from duologue.bus.kafka.rights import as_missing_right
from duologue.bus.record import Delivery

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A follower that is given up waits so long for its thread.
_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 0.2
# Retention deleted what was to be read next, or a cluster that lost its disks has less than it had.
_GONE = (OffsetOutOfRangeError, LogTruncationError)


class Follower:
    """A consumer that is in no group, and its thread. Use as an async context manager."""

    def __init__(self, consumer: KafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._thread = ThreadPoolExecutor(1, f"kafka-follow-{topic}")

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._in_thread(lambda: self._consumer.close(autocommit=False))
        self._thread.shutdown(wait=False)

    async def batches(self, ends: Mapping[TopicPartition, int]) -> AsyncGenerator[Sequence[Delivery], None]:
        """What stands before `ends`, together, then what comes. Raises `WrongSetting` for a right that is missing."""
        there = await self._in_thread(self._poll)
        while not await self._in_thread(lambda: self._has_passed(ends)):
            there += await self._in_thread(self._poll)
        yield there
        while True:
            if came := await self._in_thread(self._poll):
                yield came

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _has_passed(self, ends: Mapping[TopicPartition, int]) -> bool:
        """A partition that is held by no broker now has no position."""
        positions = {partition: self._consumer.position(partition, timeout_ms=0) for partition in ends}
        return all(at is not None and at >= ends[partition] for partition, at in positions.items())

    def _poll(self) -> list[Delivery]:
        """What has come; after trouble that passes nothing, and the next call goes on."""
        try:
            self._take_partitions()
            consumed = self._consumer.poll(timeout_ms=int(_POLL_SECONDS * 1000))
        except _GONE as error:
            log.warning("followed from the beginning again", topic=self._topic, reason=f"{type(error).__name__}")
            self._consumer.seek_to_beginning()
        except KafkaError as error:
            if not error.retriable:
                raise as_missing_right(error) from error
            log.warning("not followed, trying again", topic=self._topic, reason=f"{type(error).__name__}: {error}")
            time.sleep(_PAUSE_SECONDS)
        else:
            return [delivery_of(one) for records in consumed.values() for one in records]
        return []

    def _take_partitions(self) -> None:
        """All that the topic has, each from its beginning on; it may be given more."""
        there = {TopicPartition(self._topic, number) for number in self._consumer.partitions_for_topic(self._topic)}
        held = self._consumer.assignment()
        if more := there - held:
            self._consumer.assign(there | held)
            self._consumer.seek_to_beginning(*more)
