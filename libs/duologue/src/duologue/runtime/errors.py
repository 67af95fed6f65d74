"""Errors of the domain as gRPC statuses, the same in every service."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from duologue.bus import NotThereYet, Poison, Transient
from duologue.core.problems import InvalidInput
from duologue.runtime.failures import classify_errors

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
    NotThereYet: grpc.StatusCode.UNAVAILABLE,
}
# Details travel in a header, percent-encoded, and gRPC refuses an answer whose headers are longer than 8 KiB.
_LONGEST_DETAILS = 2500
# For what a stream says of the stop itself, as health does.
_LAST_WORD_SECONDS = 1.0


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Answers a mistake of the caller with its message, and one of ours with INTERNAL and a stack in the log.

    Once `stopping` is set, streams end with UNAVAILABLE, so that who watches asks another process or the next one.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping

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
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                _stream(handler.unary_stream, self._stopping), handler.request_deserializer, handler.response_serializer
            )
        return handler  # reflection streams both ways; ours do not


def _unary(method: Any) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            return await _abort(error, context)

    return call


def _stream(method: Any, stopping: asyncio.Event) -> Any:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        answering = asyncio.create_task(_answer(method, request, context))
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({answering, stop}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({answering}, timeout=_LAST_WORD_SECONDS)
            if answering.done():
                answering.result()
            else:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the service stops")
        except Exception as error:
            await _abort(error, context)
        finally:
            answering.cancel()
            stop.cancel()
            await asyncio.gather(answering, stop, return_exceptions=True)

    return call


async def _answer(method: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if not inspect.isasyncgenfunction(method):  # the health service's Watch writes to its context itself
        await method(request, context)
        return
    async with aclosing(method(request, context)) as responses:
        async for response in responses:
            await context.write(response)


async def _abort(error: Exception, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    if isinstance(error, (grpc.aio.AbortError, grpc.RpcError)):
        raise error
    error = _classified(error)
    status = _STATUS.get(type(error))
    if status is None:
        log.error("call failed", exc_info=error)
        await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: see the service's log")
    await context.abort(status, _shortened(str(error)))


def _classified(error: Exception) -> Exception:
    if isinstance(error, OSError):
        return error  # of our own disk or network: nothing that the caller could mend
    try:
        with classify_errors():
            raise error
    except Exception as found:
        return found


def _shortened(details: str) -> str:
    data = details.encode()
    if len(data) <= _LONGEST_DETAILS:
        return details
    return data[:_LONGEST_DETAILS].decode(errors="ignore") + "\n... and more"
