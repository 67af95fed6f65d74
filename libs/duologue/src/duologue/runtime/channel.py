"""Channels to services, as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import grpc
import structlog

from duologue.runtime.address import is_loopback
from duologue.runtime.calls import TracedCalls
from duologue.runtime.certificates import Certificates, load_certificates
from duologue.runtime.settings import GrpcSettings
from duologue.runtime.tokens import load_tokens, shown
from duologue.telemetry import is_traced

log = structlog.get_logger(__name__)

Options = Sequence[tuple[str, Any]]


def open_channel(address: str, settings: GrpcSettings, options: Options = ()) -> grpc.aio.Channel:
    """To another service, in the event loop. Raises `WrongSetting` for files that can't be used."""
    return cast("grpc.aio.Channel", _ServiceChannel(grpc.aio, address, settings, options))


def open_blocking_channel(address: str, settings: GrpcSettings, options: Options = ()) -> grpc.Channel:
    """The same outside of one."""
    return cast("grpc.Channel", _ServiceChannel(grpc, address, settings, options))


class _ServiceChannel:
    """As much of a channel as our stubs ask for.

    A channel of gRPC keeps the certificates that it was made with. So one is made anew when the files have changed;
    calls that are under way end on the old one. The token is read for every call.
    """

    def __init__(self, api: Any, address: str, settings: GrpcSettings, options: Options) -> None:
        """`api`: `grpc` or `grpc.aio`."""
        self._api = api
        self._address = address
        names = [("grpc.ssl_target_name_override", settings.server_name)] if settings.server_name else []
        self._options = [*options, *names]
        self._files = load_certificates(settings) if settings.tls else None
        self._tokens = load_tokens(settings.token_file) if settings.token_file else None
        self._made_with = self._certificates()
        if self._tokens and not settings.tls and not is_loopback(address.rpartition(":")[0]):
            log.warning("the token is shown without TLS: whoever listens on the way can use it", address=address)
        self._channel = self._connect()

    def unary_unary(self, *method: Any, **codecs: Any) -> Callable[..., Any]:
        return self._calls("unary_unary", method, codecs)

    def unary_stream(self, *method: Any, **codecs: Any) -> Callable[..., Any]:
        return self._calls("unary_stream", method, codecs)

    def _calls(self, kind: str, method: Any, codecs: Any) -> Callable[..., Any]:
        def call(request: Any, *, metadata: Sequence[tuple[str, str]] = (), **named: Any) -> Any:
            token = [shown(self._tokens)] if self._tokens else []
            return getattr(self._current(), kind)(*method, **codecs)(request, metadata=(*metadata, *token), **named)

        return call

    def _current(self) -> Any:
        certificates = self._certificates()
        if certificates is not self._made_with:
            self._made_with = certificates
            self._channel = self._connect()
        return self._channel

    def _certificates(self) -> Certificates | None:
        return None if self._files is None else self._files.value

    def _connect(self) -> Any:
        # A command, which has no event loop, is in no trace.
        seen = {"interceptors": [TracedCalls()]} if self._api is grpc.aio and is_traced() else {}
        if self._made_with is None:
            return self._api.insecure_channel(self._address, options=self._options, **seen)
        return self._api.secure_channel(self._address, self._made_with.of_channel, options=self._options, **seen)

    def __enter__(self) -> _ServiceChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    async def __aenter__(self) -> _ServiceChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()
