"""What the writer makes of a producer that does not tell the truth, or does not end. Real ones: tests/contract."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kafka.errors import InvalidProducerEpochError, KafkaError, KafkaTimeoutError

from duologue.bus.kafka.records import encode
from duologue.bus.kafka.writer import Writer
from duologue.bus.record import Record
from tests.support.eventually import eventually

RECORDS = [encode(Record("topic", f"key-{number}", b"value")) for number in range(3)]


class FakeFuture:
    """Of a record that was sent."""

    def __init__(self, exception: Exception | None) -> None:
        self.exception = exception

    def succeeded(self) -> bool:
        return self.exception is None

    def failed(self) -> bool:
        return self.exception is not None


class FakeProducer:
    """Commits whatever becomes of the records, as kafka-python does that was shut out in the middle."""

    def __init__(self, refusal: Exception | None = None, unending: bool = False) -> None:
        self._refusal = refusal
        self._committed = threading.Event()
        if not unending:
            self._committed.set()
        self.is_forced = False
        self._sender = self

    def init_transactions(self) -> None: ...
    def begin_transaction(self) -> None: ...

    def send(self, *_: Any) -> FakeFuture:
        refusal, self._refusal = self._refusal, None
        return FakeFuture(refusal)

    def commit_transaction(self) -> None:
        self._committed.wait()

    def close(self, timeout: float) -> None:
        """Some of what was sent can't be got rid of."""
        raise KafkaTimeoutError("not flushed")

    def force_close(self) -> None:
        self.is_forced = True
        self._committed.set()


@pytest.fixture
async def producers() -> list[FakeProducer]:
    """The next of them is what the writer connects."""
    return []


@pytest.fixture
async def writer(producers: list[FakeProducer]) -> AsyncIterator[Writer]:
    writer = Writer(lambda: producers.pop(0))
    yield writer
    await writer.close()


async def test_a_commit_without_one_of_its_records_is_none(writer: Writer, producers: list[FakeProducer]) -> None:
    first, second = FakeProducer(refusal=InvalidProducerEpochError()), FakeProducer()
    producers += [first, second]
    with pytest.raises(InvalidProducerEpochError):
        await writer.write(RECORDS, [])
    assert first.is_forced
    await writer.write(RECORDS, [])
    assert producers == []


async def test_a_producer_that_is_left_behind_is_ended_whatever_it_still_has(
    writer: Writer, producers: list[FakeProducer], monkeypatch: pytest.MonkeyPatch
) -> None:
    unending = FakeProducer(unending=True)
    producers += [unending, FakeProducer()]
    await writer.begin()
    monkeypatch.setattr(writer, "_patience", 0.01)
    with pytest.raises(KafkaError, match="no answer within"):
        await writer.write(RECORDS, [])

    async def is_forced() -> bool:
        return unending.is_forced

    await eventually(is_forced, "the one that was left behind is ended")
    await writer.write(RECORDS, [])
