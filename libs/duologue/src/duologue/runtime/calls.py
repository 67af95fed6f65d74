"""Calls of gRPC as metrics count them and traces show them, by OpenTelemetry's conventions for RPC."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import grpc
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from prometheus_client import Counter, Histogram

from duologue.telemetry import TRACE_CONTEXT, TRACER, carried, child, fail, is_traced, timed, within

_CALLS = Counter("duologue_calls_total", "Calls that were answered, by gRPC's status.", ("method", "code"))
_SECONDS = Histogram(
    "duologue_call_seconds",
    "Time to answer a call; those that are answered by a stream are not among them.",
    ("method",),
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)

# What anybody may ask for by any name; a name is a label only if it is a method's.
_UNKNOWN = "unknown"
# Asked every few seconds, by nobody who would look at a trace.
_UNTRACED = "grpc.health.v1.Health/"
# The others are the caller's doing, or wish.
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

_Details = grpc.HandlerCallDetails


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Counts and times what the others behind it answer. `methods`: full names, as package.Service/Method."""

    def __init__(self, methods: Collection[str]) -> None:
        self._methods = methods

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[Any]], handler_call_details: _Details
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler
        details: Any = handler_call_details
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._seen(handler.unary_unary, details, is_timed=True), *codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._seen(handler.unary_stream, details), *codecs)
        if inspect.isasyncgenfunction(handler.stream_stream):
            return handler  # reflection
        return grpc.stream_stream_rpc_method_handler(self._seen(handler.stream_stream, details), *codecs)

    def _seen(self, answer: Any, details: Any, *, is_timed: bool = False) -> Any:
        name = details.method.removeprefix("/")
        method = name if name in self._methods else _UNKNOWN

        async def call(request: Any, context: Any) -> Any:
            told = _ToldContext(context)
            with _span(method, details.invocation_metadata, told):
                try:
                    with timed(_SECONDS.labels(method)) if is_timed else nullcontext():
                        return await answer(request, told)
                except asyncio.CancelledError:
                    told.code = "CANCELLED"
                    raise
                finally:
                    _CALLS.labels(method, told.code).inc()

        return call


class _ToldContext:
    """A call's context that knows how the call was answered; gRPC's own does not tell."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.code = "OK"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(self, code: grpc.StatusCode, *arguments: Any, **named: Any) -> None:
        self.code = code.name
        await self._context.abort(code, *arguments, **named)


@contextmanager
def _span(method: str, metadata: Any, told: _ToldContext) -> Iterator[None]:
    if not is_traced() or method.startswith(_UNTRACED):
        yield
        return
    parent = TRACE_CONTEXT.extract({name: str(value) for name, value in metadata or ()}, Context())
    span = TRACER.start_span(method, parent, SpanKind.SERVER, _attributes(method))
    with within(span):
        try:
            yield
        finally:
            _show_code(span, told.code)


def _show_code(span: Span, code: str) -> None:
    span.set_attribute("rpc.response.status_code", code)
    if code in _FAULTS:
        fail(span, code)


def _attributes(method: str) -> dict[str, Any]:
    return {"rpc.system.name": "grpc", "rpc.method": method}


class TracedCalls(grpc.aio.UnaryUnaryClientInterceptor):
    """A call to another service is a span, which the other one is told of."""

    async def intercept_unary_unary(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        details: Any = client_call_details
        method = _text(details.method).removeprefix("/")
        with child(method, SpanKind.CLIENT, lambda: _attributes(method)) as span:
            headers = carried()
            if headers is None:
                return await continuation(details, request)
            metadata = grpc.aio.Metadata(*(details.metadata or ()), *headers.items())
            call = await continuation(details._replace(metadata=metadata), request)
            _show_code(span, (await call.code()).name)
            return call


def _text(method: str | bytes) -> str:
    return method.decode() if isinstance(method, bytes) else method
