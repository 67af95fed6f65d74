"""The thread that a transactional producer lives in."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from kafka import KafkaProducer, OffsetAndMetadata
from kafka.errors import KafkaError, KafkaTimeoutError

from duologue.bus.kafka.records import Encoded

log = structlog.get_logger(__name__)

Offsets = Mapping[Any, OffsetAndMetadata]
"""What a group has finished, by `TopicPartition`."""

_CLOSE_SECONDS = 5.0
# A producer of kafka-python 3.0.12 that finds the coordinator of its transaction gone drops the request and waits
# for ever. The time that it is given doubles when it is too short, so that slow brokers are no endless loop.
_SHORTEST_SECONDS, _LONGEST_SECONDS = 5.0, 80.0
_CONNECT_SECONDS = 25.0


class Writer:
    """One producer, begun anew after every error.

    After an error a producer of kafka-python may keep what the failed transaction was to commit. One that is new, with
    the same transactional id, has the broker end what the old one left open, one way or the other, before it writes.
    """

    def __init__(self, connect: Callable[[], KafkaProducer]) -> None:
        self._connect = connect
        self._worker = _Worker(connect)
        self._patience = _SHORTEST_SECONDS

    async def begin(self) -> None:
        """Connect. Raises KafkaError when that can't be done."""
        await self._call(lambda worker: worker.ready(), _CONNECT_SECONDS)

    async def write(self, records: Sequence[Encoded], offsets: Sequence[tuple[Any, Offsets]]) -> None:
        """One transaction with all of it; `offsets` beside the membership of the member that finished them.

        Raises what the broker said. Whether the transaction was committed is then open only until the next call.
        """
        await self._call(lambda worker: worker.transact(records, offsets), self._patience)
        self._patience = _SHORTEST_SECONDS

    async def close(self) -> None:
        await self._worker.close()

    async def _call(self, call: Callable[[_Worker], object], seconds: float) -> None:
        worker = self._worker
        try:
            await asyncio.wait_for(worker.do(lambda: call(worker)), seconds)
        except TimeoutError as error:
            log.warning("producer left behind: no answer", seconds=seconds)
            worker.leave()
            self._worker = _Worker(self._connect)
            self._patience = min(2 * self._patience, _LONGEST_SECONDS)
            raise KafkaTimeoutError(f"no answer within {seconds:g} s") from error


class _Worker:
    """A thread with a producer, which does one call after the other."""

    def __init__(self, connect: Callable[[], KafkaProducer]) -> None:
        self._connect = connect
        self._producer: KafkaProducer | None = None
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # A daemon: a broker that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="kafka-writer", daemon=True)
        self._thread.start()

    async def do(self, call: Callable[[], object]) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        self._calls.put((call, done))
        await done

    def ready(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = self._connect()
            self._producer.init_transactions()
        return self._producer

    def transact(self, records: Sequence[Encoded], offsets: Sequence[tuple[Any, Offsets]]) -> None:
        producer = self.ready()
        producer.begin_transaction()
        sent = [producer.send(topic, value, key, headers) for topic, key, value, headers in records]
        try:
            for membership, of_member in offsets:
                producer.send_offsets_to_transaction(dict(of_member), membership)
            producer.commit_transaction()
        except KafkaError as error:
            # The transaction says only that something failed, the record says what.
            raise _refusal(sent) or error from error
        # kafka-python 3.0.12 says so as well of one that it gave up, as when another producer has its transactional id.
        if not all(one.succeeded() for one in sent):
            raise _refusal(sent) or KafkaError("the transaction was committed without some of its records")

    async def close(self) -> None:
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join, _CLOSE_SECONDS)

    def leave(self) -> None:
        """Whoever comes next with the same transactional id shuts out what may still be under way here."""
        self._calls.put(None)
        if self._producer is not None:
            threading.Thread(target=_discard, args=(self._producer, 0.0), daemon=True).start()

    def _run(self) -> None:
        while (following := self._calls.get()) is not None:
            call, done = following
            try:
                call()
            except Exception as error:  # the caller gets it
                self._discard()
                self._tell(_settle, done, error)
            else:
                self._tell(_settle, done, None)
        self._discard()

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            _discard(producer, _CLOSE_SECONDS)

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)


def _refusal(sent: Sequence[Any]) -> Exception | None:
    return next((one.exception for one in sent if one.failed()), None)


def _discard(producer: KafkaProducer, seconds: float) -> None:
    """What it has not written is written by the next one, or given up."""
    try:
        producer.close(timeout=seconds)
    except KafkaError:  # some of it is left, and it would go on to write it, and shut out the next one
        producer._sender.force_close()


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
