"""Records as traces show them, by OpenTelemetry's conventions for messaging: made here, handled there.

The trace of a record is that of its key, so all that becomes of a dialogue is in one, whoever handles it and however
often it is asked for, tried again or delivered, and whether it is recorded is decided once. What causes a record of
another trace, as the end of one dialogue that another is asked for, is linked to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from duologue.bus.record import Delivery, Record
from duologue.telemetry import (
    TRACE_CONTEXT,
    TRACEPARENT,
    TRACER,
    UNSEEN,
    begin,
    child,
    fail,
    is_traced,
    trace_of,
    within,
)

OUTCOME = "duologue.outcome"


def trace_headers(topic: str, key: str, message_id: str) -> dict[str, str]:
    """What a new record says of its trace: none while nobody traces."""
    cause = trace.get_current_span().get_span_context()
    if not cause.is_valid and not is_traced():
        return {}
    attributes = {
        **_operation("create", topic),
        "messaging.message.id": message_id,
        "messaging.kafka.message.key": key,
    }
    name = f"create {topic}"
    if cause.trace_id == trace_of(key):
        span = TRACER.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
    else:
        span = begin(key, name, SpanKind.PRODUCER, attributes, [Link(cause)] if cause.is_valid else [])
    span.end()
    headers: dict[str, str] = {}
    TRACE_CONTEXT.inject(headers, trace.set_span_in_context(span))
    return headers


def handling(delivery: Delivery, group: str, attempt: int) -> AbstractContextManager[Span]:
    """The current span while a delivery is handled. One that came without a trace is in that of its key."""
    record = delivery.record
    is_told = TRACEPARENT in record.headers
    if not is_told and not is_traced():
        return UNSEEN
    name = f"process {record.topic}"
    attributes = {
        **_operation("process", record.topic),
        "messaging.consumer.group.name": group,
        "messaging.destination.partition.id": str(delivery.partition),
        "messaging.kafka.offset": delivery.offset,
        "messaging.kafka.message.key": record.key,
        "messaging.message.id": record.headers.get("ce_id", ""),
        "duologue.attempt": attempt,
    }
    parent = TRACE_CONTEXT.extract(record.headers, Context())
    if trace.get_current_span(parent).get_span_context().is_valid:
        return within(TRACER.start_span(name, parent, SpanKind.CONSUMER, attributes))
    return within(begin(record.key, name, SpanKind.CONSUMER, attributes))


def sending(records: Sequence[Record]) -> AbstractContextManager[Span]:
    """While records of many traces are written together, which are linked: none of them is the parent of that."""
    if not is_traced():
        return UNSEEN
    contexts = (trace.get_current_span(TRACE_CONTEXT.extract(record.headers, Context())) for record in records)
    links = [Link(found) for span in contexts if (found := span.get_span_context()).trace_flags.sampled]
    if not links:
        return UNSEEN
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": len(records),
    }
    return within(TRACER.start_span("send outbox", Context(), SpanKind.CLIENT, attributes, links))


def settling(delivery: Delivery) -> AbstractContextManager[Span]:
    """The time in which what a delivery caused is written, and that it is done."""
    topic = delivery.record.topic
    return child(f"settle {topic}", SpanKind.CLIENT, lambda: _operation("settle", topic))


def show_outcome(span: Span, outcome: str) -> None:
    if span.is_recording():
        span.set_attribute(OUTCOME, outcome)
        if outcome in ("dead", "retried", "lease_lost"):
            fail(span, outcome)


def _operation(kind: str, topic: str) -> dict[str, Any]:
    return {
        "messaging.system": "kafka",  # the embedded log keeps its rules
        "messaging.operation.name": kind,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
    }
