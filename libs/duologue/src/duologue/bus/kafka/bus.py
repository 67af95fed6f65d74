"""Topics on Apache Kafka."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from duologue.bus.kafka.client import KafkaClients
from duologue.bus.kafka.follower import Follower
from duologue.bus.kafka.group import KafkaSubscription
from duologue.bus.kafka.offsets import ends_of, lag_of
from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.kafka.records import delivery_of
from duologue.bus.kafka.rights import NAMES, require_rights, rights_of
from duologue.bus.kafka.transactions import Transactions
from duologue.bus.record import Delivery, Record
from duologue.core.problems import WrongSetting

T = TypeVar("T")

_READ_AHEAD = 256
_NEW_TOPIC_SECONDS = 5.0
# A question is asked again for so long, as when a broker is gone and another takes its part.
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 0.2


class KafkaBus:
    """`Bus` on Kafka. Open one per process with `open`.

    kafka-python blocks, so each consumer lives in a thread of its own, and all that is written in another.
    """

    def __init__(self, clients: KafkaClients, handover_seconds: float) -> None:
        self._clients = clients
        self._handover_seconds = handover_seconds
        self._transactions = Transactions(clients.producer)
        self._subscriptions: list[KafkaSubscription] = []

    @classmethod
    async def open(cls, servers: Sequence[str], options: KafkaOptions, service: str = "") -> KafkaBus:
        """Raises KafkaError when the cluster can't be reached.

        Raises `WrongSetting` for options, where we are refused, and for topics and rights that `service` lacks.
        """
        name = f"{NAMES}{options.instance or uuid.uuid4().hex[:12]}"
        clients = KafkaClients(servers, options, name)
        await asyncio.to_thread(clients.require_admission)
        bus = cls(clients, options.handover_seconds)
        try:
            await bus._transactions.begin()
            await bus._ask(lambda admin: require_rights(admin, rights_of(service)))
        except BaseException:
            await bus._transactions.close()
            raise
        return bus

    async def publish(self, records: Sequence[Record]) -> None:
        if records:
            await self._transactions.publish(records)

    async def subscribe(self, group: str, topics: Sequence[str]) -> KafkaSubscription:
        consumer = await asyncio.to_thread(self._clients.member, group)
        await _require_topics(consumer, topics)
        subscription = KafkaSubscription(consumer, group, topics, self._transactions, self._handover_seconds)
        self._subscriptions.append(subscription)
        subscription.join()
        return subscription

    async def read(self, topic: str) -> AsyncIterator[Delivery]:
        """Behind a transaction that is still open it waits: for seconds, where a process died within one."""
        ends = await self._ask(lambda admin: ends_of(admin, topic))
        consumer = await asyncio.to_thread(self._clients.reader)
        try:
            for partition, end in ends.items():
                await asyncio.to_thread(_begin, consumer, partition)
                while await asyncio.to_thread(consumer.position, partition) < end:
                    consumed = await asyncio.to_thread(consumer.poll, timeout_ms=1000, max_records=_READ_AHEAD)
                    for one in consumed.get(partition, ()):
                        if one.offset < end:
                            yield delivery_of(one)
        finally:
            await asyncio.to_thread(consumer.close, autocommit=False)

    async def follow(self, topic: str) -> AsyncGenerator[Sequence[Delivery], None]:
        """What stands behind a transaction that is still open comes when that is over, as for `read`."""
        consumer = await asyncio.to_thread(self._clients.reader)
        await _require_topics(consumer, [topic])
        async with Follower(consumer, topic) as follower:
            ends = await self._ask(lambda admin: ends_of(admin, topic))
            async with aclosing(follower.batches(ends)) as batches:
                async for batch in batches:
                    yield batch

    async def topics(self) -> Sequence[str]:
        return sorted(await self._ask(lambda admin: admin.list_topics()))

    async def lag(self, group: str, topic: str) -> int:
        """Offsets rather than records: what a transaction's end takes of them counts too, until it is read past."""
        return await self._ask(lambda admin: lag_of(admin, group, topic))

    async def close(self) -> None:
        await asyncio.gather(*(subscription.close() for subscription in self._subscriptions))
        await self._transactions.close()

    async def _ask(self, question: Callable[[KafkaAdminClient], T]) -> T:
        def ask() -> T:
            admin = self._clients.admin()
            try:
                return question(admin)
            finally:
                admin.close()

        return await _patiently(ask)


async def _patiently(ask: Callable[[], T]) -> T:
    """What a call that blocks returns; it is repeated while the brokers are in trouble that passes."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await asyncio.to_thread(ask)
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)


async def _require_topics(consumer: KafkaConsumer, topics: Sequence[str]) -> None:
    """Raises `WrongSetting` for topics that the cluster does not have, and closes the consumer then."""
    if missing := await _patiently(lambda: _missing(consumer, topics)):
        await asyncio.to_thread(consumer.close, autocommit=False)
        raise WrongSetting(f"topics are missing: {', '.join(missing)}; `duologue topics apply` makes them")


def _missing(consumer: KafkaConsumer, topics: Sequence[str]) -> list[str]:
    """Topics that the cluster does not have. One that is new is not known to every broker at once."""
    deadline = time.monotonic() + _NEW_TOPIC_SECONDS
    while missing := [topic for topic in topics if not consumer.partitions_for_topic(topic)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return missing


def _begin(consumer: KafkaConsumer, partition: TopicPartition) -> None:
    consumer.assign([partition])
    consumer.seek_to_beginning(partition)
