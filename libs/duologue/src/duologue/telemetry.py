"""What the parts of the library share to be seen by: spans, and the exemplars that lead from a metric to a trace.

This knows OpenTelemetry's API only. Unless `runtime.traces` has set up its SDK, nothing is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Histogram

TRACER = trace.get_tracer("duologue")
TRACE_CONTEXT = TraceContextTextMapPropagator()
TRACEPARENT = "traceparent"

Attributes = Mapping[str, Any]

# For whoever makes trace ids: the one that is wanted, 0 for any.
wanted_trace: ContextVar[int] = ContextVar("wanted_trace", default=0)

UNSEEN: AbstractContextManager[Span] = nullcontext(trace.INVALID_SPAN)
"""A span that nobody records."""


def is_traced() -> bool:
    """Whether this process records traces, be it of some dialogues only."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def trace_of(key: str) -> int:
    """The trace of all records with this key: known to everybody, without asking.

    A hash, since samplers take part of a trace id for a random number, and a UUID is none there.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=16).digest(), "big")


def begin(key: str, name: str, kind: SpanKind, attributes: Attributes, links: Sequence[Link] = ()) -> Span:
    """A span of the trace of `key` that has no parent. Whether the trace is recorded is decided by its id alone."""
    token = wanted_trace.set(trace_of(key))
    try:
        return TRACER.start_span(name, Context(), kind, attributes, links)
    finally:
        wanted_trace.reset(token)


def within(span: Span) -> AbstractContextManager[Span]:
    """The span is the current one for the time of the block, and ends with it."""
    return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def child(name: str, kind: SpanKind, attributes: Callable[[], Attributes]) -> AbstractContextManager[Span]:
    """A span within the current one, where that is recorded. What the block raises shows by its name alone: messages
    may quote what was said."""
    return _child(name, kind, attributes()) if trace.get_current_span().is_recording() else UNSEEN


@contextmanager
def _child(name: str, kind: SpanKind, attributes: Attributes) -> Iterator[Span]:
    with within(TRACER.start_span(name, kind=kind, attributes=attributes)) as span:
        try:
            yield span
        except Exception as error:
            fail(span, type(error).__name__)
            raise


def fail(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)


def carried() -> dict[str, str] | None:
    """The current span as headers of a request that is made for it; None where it is not recorded."""
    if not trace.get_current_span().is_recording():
        return None
    headers: dict[str, str] = {}
    TRACE_CONTEXT.inject(headers)
    return headers


def observe(histogram: Histogram, value: float) -> None:
    """Count a value in, with the trace that is recorded now as its exemplar."""
    histogram.observe(value, _exemplar())


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Count in the seconds that the block takes."""
    started = time.perf_counter()
    try:
        yield
    finally:
        observe(histogram, time.perf_counter() - started)


def _exemplar() -> dict[str, str] | None:
    span = trace.get_current_span()
    if not span.is_recording():  # asked first, since it takes a third of the time
        return None
    context = span.get_span_context()
    return {"trace_id": trace.format_trace_id(context.trace_id)} if context.trace_flags.sampled else None
