"""A service's gRPC server: who may call, and health for those who only want to know whether it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from duologue.runtime.address import is_loopback, try_address
from duologue.runtime.calls import CallInterceptor
from duologue.runtime.certificates import server_credentials
from duologue.runtime.errors import ErrorInterceptor
from duologue.runtime.settings import GrpcSettings
from duologue.runtime.tokens import TokenInterceptor, load_tokens

log = structlog.get_logger(__name__)

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Who a caller is, is looked at when it connects and when it calls. After these it must do so again.
_AGES = [("grpc.max_connection_age_ms", 3_600_000), ("grpc.max_connection_age_grace_ms", 600_000)]

_NOT_SERVING, _SERVING = health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING


class Server:
    """Where the settings want a plain one for probes beside it, that one answers health and nothing else."""

    def __init__(self, settings: GrpcSettings, stopping: asyncio.Event) -> None:
        """Streams end when `stopping` is set. Raises `WrongSetting` for certificates and tokens that can't be used."""
        self._settings = settings
        self._credentials = server_credentials(settings) if settings.tls else None
        asks = [TokenInterceptor(load_tokens(settings.token_file))] if settings.token_file else []
        knows = settings.tls or settings.token_file
        self._methods = set(_methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"]))
        counts = CallInterceptor(self._methods)
        self._calls = _server([counts, *asks, ErrorInterceptor(stopping)], _AGES if knows else [])
        self._probes = _server([ErrorInterceptor(stopping)], []) if settings.health_port else None
        self._health = health.aio.HealthServicer()
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME]

    def add(self, register: Callable[[Any, Any], None], servicer: object, descriptor: Any) -> None:
        """Answer the calls of a service; `descriptor` is the service's, for reflection."""
        register(servicer, self._calls)
        self._names.append(descriptor.full_name)
        self._methods.update(_methods_of(descriptor))

    async def start(self) -> int:
        """The port; health is NOT_SERVING. Ends the process, or raises `WrongSetting`, where it can't listen."""
        host, port, health_port = self._settings.host, self._settings.port, self._settings.health_port
        await self._health.set("", _NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._calls)
        reflection.enable_server_reflection(self._names, self._calls)
        try_address("grpc", host, port)
        if self._probes is not None:
            try_address("grpc", host, health_port, "health_port")
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probes)
            self._probes.add_insecure_port(f"{host}:{health_port}")
            await self._probes.start()
        if self._credentials is None:
            port = self._calls.add_insecure_port(f"{host}:{port}")
        else:
            port = self._calls.add_secure_port(f"{host}:{port}", self._credentials)
        await self._calls.start()
        self._warn()
        return port

    async def say_serving(self) -> None:
        await self._health.set("", _SERVING)

    async def say_stopping(self) -> None:
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        servers = [self._calls] if self._probes is None else [self._calls, self._probes]
        await asyncio.gather(*(server.stop(grace=grace_seconds) for server in servers))

    def _warn(self) -> None:
        settings = self._settings
        if is_loopback(settings.host):
            return
        if not settings.tls:
            log.warning("calls are not encrypted, and others can reach this address (setting grpc.tls)")
        if not settings.token_file and not settings.require_client_certificate:
            log.warning(
                "whoever reaches this address may call (settings grpc.token_file or grpc.require_client_certificate)"
            )


def _methods_of(descriptor: Any) -> Iterator[str]:
    return (f"{descriptor.full_name}/{method.name}" for method in descriptor.methods)


def _server(interceptors: list[grpc.aio.ServerInterceptor], options: list[tuple[str, Any]]) -> grpc.aio.Server:
    return grpc.aio.server(
        interceptors=interceptors,
        options=[
            # Without this a second process listens on the same port, and each gets half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            *options,
        ],
    )
