"""A service's life: open, serve, work, stop in the reverse order."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import cached_property, partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

import prometheus_client
import structlog
from google.protobuf.message import Message

from duologue.bus import Bus, Record, Worker, open_bus
from duologue.bus.codec import decode
from duologue.contracts.topics import Topic
from duologue.core.problems import WrongSetting
from duologue.runtime.address import refuse_address
from duologue.runtime.cancellations import Cancellations
from duologue.runtime.failures import classify_errors
from duologue.runtime.logs import configure_logs
from duologue.runtime.server import Server
from duologue.runtime.settings import ServiceSettings
from duologue.runtime.traces import start_traces
from duologue.store import DatabaseUnavailable

log = structlog.get_logger(__name__)

_BUILD = prometheus_client.Info("duologue_build", "Which service this is, and its version.")
# After draining, for the last traces; a collector that is away must not hold up the end.
_LAST_TRACES_SECONDS = 5.0


class Resource(Protocol):
    """What opens and closes with the service."""

    async def __aenter__(self) -> Any: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Any: ...


R = TypeVar("R", bound=Resource)
M = TypeVar("M", bound=Message)


class Runtime:
    """The chassis. Leaving the context closes everything in the reverse order of opening."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        self.stopping = asyncio.Event()
        self.bus: Bus
        self._stack = AsyncExitStack()
        self._server: Server
        self._work: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def __aenter__(self) -> Runtime:
        configure_logs(self.service, self.settings.log)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stopping.set)
        try:
            self._start_metrics()
            self._start_traces()
            self._server = Server(self.settings.grpc, self.stopping)
            self.bus = await open_bus(self.settings.bus.url, self.settings.kafka.options, self.service)
        except WrongSetting as error:
            await self._stack.aclose()
            _refuse(error)
        self._stack.push_async_callback(self.bus.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if isinstance(error, WrongSetting):
            _refuse(error)
        if isinstance(error, DatabaseUnavailable):  # no setting need be wrong: who starts services tries again
            print(error, file=sys.stderr)
            raise SystemExit(1)

    async def open(self, resource: R) -> R:
        """Open a resource for the life of the service."""
        await self._stack.enter_async_context(resource)
        return resource

    def closing(self, close: Callable[[], Awaitable[Any]]) -> None:
        """Have `close` awaited when the service ends."""
        self._stack.push_async_callback(close)

    def serve(self, register: Callable[[Any, Any], None], servicer: object, descriptor: Any) -> None:
        """Answer the calls of a gRPC service; `descriptor` is the service's, for reflection."""
        self._server.add(register, servicer, descriptor)

    def consume(
        self,
        topic: Topic,
        message: type[M],
        handle: Callable[[M], Awaitable[Sequence[Record]]],
        *,
        concurrency: int = 32,
        campaign_of: Callable[[M], str] | None = None,
    ) -> None:
        """Work off a topic as a member of the service's group; see `bus.Worker` for the promises.

        `handle` is given the message of a record and returns what it causes: records that are published with the end
        of this one, both or neither. What it raises decides what becomes of the record; see `failures`.
        `campaign_of` a message: once that is cancelled, `handle` is broken off, and not called for what still waits.
        """
        bus = self.settings.bus
        worker = Worker(
            self.bus,
            topic,
            self.service,
            record_handler(topic, message, handle),
            concurrency=concurrency,
            retry=bus.retry,
            dead_letter_share=bus.dead_letter_share,
            is_cancelled=self._cancellations.among(message, campaign_of) if campaign_of else None,
        )
        run = partial(worker.run, self.stopping, self.settings.drain_seconds)
        if campaign_of:
            self._cancellations.tell(worker.drop_cancelled)
            run = partial(self._once_cancellations_are_known, run)
        self._work.append(run)

    def run_in_background(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` until the service stops, which it does as well when `work` fails or ends."""
        self._work.append(partial(self._until_stopping, work))

    async def until_stopped(self) -> None:
        """SERVING, wait for SIGTERM or a failure, drain. Failures of work are logged; the process ends with 1 then."""
        port = await self._server.start()
        collect_seldom()
        work = [asyncio.create_task(start()) for start in self._work]
        await self._server.say_serving()
        log.info("serving", grpc_port=port, metrics_port=self._metrics_port)
        stop = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({stop, *work}, return_when=asyncio.FIRST_COMPLETED)
        log.info("draining", seconds=self.settings.drain_seconds)
        self.stopping.set()
        await self._server.say_stopping()
        results = await asyncio.gather(*work, self._server.stop(self.settings.drain_seconds), return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        for failure in failures:
            if isinstance(failure, WrongSetting):
                _refuse(failure)
            log.error("work failed", exc_info=failure)
        if failures:
            raise SystemExit(1)
        log.info("stopped")

    @cached_property
    def _cancellations(self) -> Cancellations:
        """Followed from the first consumer on that heeds them."""
        cancellations = Cancellations(self.bus)
        self.run_in_background(cancellations.follow)
        return cancellations

    async def _once_cancellations_are_known(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Else what was cancelled before this process started would be begun with."""
        waits = [asyncio.create_task(event.wait()) for event in (self._cancellations.known, self.stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self.stopping.is_set():
            await work()

    async def _until_stopping(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.create_task(work())
        stop = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
            if not self.stopping.is_set():
                raise RuntimeError(f"{work} ended, and was to run as long as the service")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _start_metrics(self) -> None:
        metrics = self.settings.metrics
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a third of all series
        _BUILD.info({"service": self.service, "version": version("duologue")})
        try:
            server, _ = prometheus_client.start_http_server(metrics.port, metrics.host)
        except OSError as error:
            refuse_address("metrics", metrics.host, metrics.port, error)
        self._metrics_port = server.server_port
        self._stack.callback(server.shutdown)

    def _start_traces(self) -> None:
        finish = start_traces(self.service)
        if finish is not None:
            self._stack.push_async_callback(_for_at_most, _LAST_TRACES_SECONDS, finish)


def collect_seldom() -> None:
    """Leave the modules out of garbage collections, and collect after ten thousand new objects instead of hundreds.

    Nearly all that a service makes goes when its last reference does, and each collection walks what is still in work:
    with Python's own thresholds that takes a tenth of the time of role-play.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def record_handler(
    topic: Topic, message: type[M], handle: Callable[[M], Awaitable[Sequence[Record]]]
) -> Callable[[Record], Awaitable[Sequence[Record]]]:
    """`handle` as a worker takes it: given the message of a record, its errors told apart."""

    async def handle_record(record: Record) -> Sequence[Record]:
        with classify_errors():
            event = decode(message, record)
            with structlog.contextvars.bound_contextvars(campaign_id=topic.campaign_of(event)):
                return await handle(event)

    return handle_record


async def _for_at_most(seconds: float, work: Callable[[], None]) -> None:
    """Wait for what blocks, in a thread that is left alone when it takes longer."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    await asyncio.to_thread(thread.join, seconds)


def _refuse(message: object) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(2)
