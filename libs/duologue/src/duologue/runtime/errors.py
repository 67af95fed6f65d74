"""Errors of the domain as gRPC statuses, the same in every service."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from duologue.bus import Poison, Transient
from duologue.core.problems import InvalidInput
from duologue.runtime.failures import sorted_failures

log = structlog.get_logger(__name__)


class NotFound(Exception):
    """There is no such thing, as the message says."""


class NotPossible(Exception):
    """The thing is there, but not in a state for this."""


_STATUS = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotPossible: grpc.StatusCode.FAILED_PRECONDITION,
    # What a worker would bury or put off, a caller hears of.
    Poison: grpc.StatusCode.INVALID_ARGUMENT,
    Transient: grpc.StatusCode.UNAVAILABLE,
}
# Details travel in a header, percent-encoded, and gRPC refuses an answer whose headers are longer than 8 KiB.
_LONGEST_DETAILS = 2500


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers a mistake of the caller with its message, and one of ours with INTERNAL and a stack in the log."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                _unary(handler.unary_unary), handler.request_deserializer, handler.response_serializer
            )
        # The health service's Watch is no generator: it writes to its context.
        if handler.unary_stream and inspect.isasyncgenfunction(handler.unary_stream):
            return grpc.unary_stream_rpc_method_handler(
                _stream(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        return handler  # reflection streams both ways; ours do not


def _unary(method: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            return await _abort(error, context)

    return call


def _stream(method: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            async for response in method(request, context):
                yield response
        except Exception as error:
            await _abort(error, context)

    return call


async def _abort(error: Exception, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if isinstance(error, (grpc.aio.AbortError, grpc.RpcError)):
        raise error
    error = _sorted(error)
    status = _STATUS.get(type(error))
    if status is None:
        log.error("call failed", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: see the service's log")
    await context.abort(status, _shortened(str(error)))


def _sorted(error: Exception) -> Exception:
    if isinstance(error, OSError):
        return error  # of our own disk or network: nothing that the caller could mend
    try:
        with sorted_failures():
            raise error
    except Exception as found:
        return found


def _shortened(details: str) -> str:
    data = details.encode()
    if len(data) <= _LONGEST_DETAILS:
        return details
    return data[:_LONGEST_DETAILS].decode(errors="ignore") + "\n... and more"
