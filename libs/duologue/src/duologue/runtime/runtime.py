"""A service's life: open, serve, work, stop in the reverse order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Protocol, TypeVar

import grpc
import prometheus_client
import structlog
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from duologue.bus import Bus, Record, Worker, open_bus
from duologue.bus.codec import decode
from duologue.contracts.topics import Topic
from duologue.runtime.errors import ErrorInterceptor
from duologue.runtime.logs import configure_logs
from duologue.runtime.settings import ServiceSettings

log = structlog.get_logger(__name__)

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


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
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[ErrorInterceptor()],
            options=[
                # Without this a second process listens on the same port, and each gets half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ],
        )
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        self._work: list[Coroutine[Any, Any, None]] = []

    async def __aenter__(self) -> Runtime:
        configure_logs(self.service, self.settings.log)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stopping.set)
        self._start_metrics()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        await self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            self.bus = await open_bus(self.settings.bus.url)
        except ValueError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None
        self._stack.push_async_callback(self.bus.close)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for work in self._work:
            work.close()  # only what never ran: a failure before until_stopped
        await self._stack.aclose()

    async def open(self, resource: R) -> R:
        """Open a resource for the life of the service."""
        await self._stack.enter_async_context(resource)
        return resource

    def closing(self, close: Callable[[], Awaitable[Any]]) -> None:
        """Have `close` awaited when the service ends."""
        self._stack.push_async_callback(close)

    def serve(self, register: Callable[[Any, Any], None], servicer: object, descriptor: Any) -> None:
        """Answer the calls of a gRPC service; `descriptor` is the service's, for reflection."""
        register(servicer, self._server)
        self._names.append(descriptor.full_name)

    def consume(
        self,
        topic: Topic,
        message: type[M],
        handle: Callable[[M], Awaitable[Sequence[Record]]],
        *,
        concurrency: int = 32,
    ) -> None:
        """Work off a topic as a member of the service's group; see `bus.Worker` for the promises."""

        async def handle_record(record: Record) -> Sequence[Record]:
            with structlog.contextvars.bound_contextvars(key=record.key, topic=topic.name):
                return await handle(decode(message, record))

        retry = self.settings.bus.retry
        worker = Worker(self.bus, topic, self.service, handle_record, concurrency=concurrency, retry=retry)
        self._work.append(worker.run(self.stopping, self.settings.drain_seconds))

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run until the service stops; the service stops too if it fails."""
        self._work.append(self._until_stopping(work))

    async def until_stopped(self) -> None:
        """SERVING, wait for SIGTERM or a failure, drain. Raises the failure of any work."""
        reflection.enable_server_reflection(self._names, self._server)
        grpc_settings = self.settings.grpc
        address = f"{grpc_settings.host}:{grpc_settings.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            _exit_on_port("grpc", address)
        await self._server.start()
        work = [asyncio.create_task(coroutine) for coroutine in self._work]
        self._work = []
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", grpc_port=port)
        stop = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({stop, *work}, return_when=asyncio.FIRST_COMPLETED)
        log.info("draining", seconds=self.settings.drain_seconds)
        self.stopping.set()
        await self._health.enter_graceful_shutdown()
        results = await asyncio.gather(*work, return_exceptions=True)
        await self._server.stop(grace=self.settings.drain_seconds if work else 0)
        for result in results:
            if isinstance(result, Exception):
                raise result
        log.info("stopped")

    async def _until_stopping(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _start_metrics(self) -> None:
        metrics = self.settings.metrics
        try:
            server, _ = prometheus_client.start_http_server(metrics.port, metrics.host)
        except OSError:
            _exit_on_port("metrics", f"{metrics.host}:{metrics.port}")
        self._stack.callback(server.shutdown)


def _exit_on_port(section: str, address: str) -> None:
    print(f"{address} is in use (setting {section}.port): stop what listens there or change it", file=sys.stderr)
    raise SystemExit(1)
