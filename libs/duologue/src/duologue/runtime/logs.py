"""Structured logs with the ids of what is being worked on."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Container
from typing import Any

import structlog
from opentelemetry import trace

from duologue.runtime.settings import LogSettings

# While brokers are away kafka-python says so thousands of times a minute, each with a stack; so does OpenTelemetry's
# exporter of a collector.
_CHATTY = ("kafka", "opentelemetry")
_CHATTY_SECONDS = 10.0


def configure_logs(service: str, settings: LogSettings) -> None:
    """Log to standard error; ids bound with `structlog.contextvars` stand on every line of their task."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        # The default shows the local variables of every frame, and keys are among them.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    for_collectors: list[Any] = [_add_trace, structlog.processors.format_exc_info] if settings.format == "json" else []
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, *for_collectors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    _configure_libraries(max(level, logging.WARNING), shared, [*for_collectors, renderer])


def _add_trace(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Where to look at what went on around the event, as OpenTelemetry names it."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _configure_libraries(level: int, shared: list[Any], last: list[Any]) -> None:
    """Libraries log with the standard library; their lines look like ours."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(_Seldom(_CHATTY, _CHATTY_SECONDS))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _Seldom(logging.Filter):
    """Of each logger of chatty libraries one line within some seconds, without its stack."""

    def __init__(self, libraries: Container[str], seconds: float) -> None:
        super().__init__()
        self._libraries = libraries
        self._seconds = seconds
        self._silent_until: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".")[0] not in self._libraries:
            return True
        now = time.monotonic()
        if now < self._silent_until.get(record.name, 0.0):
            return False
        self._silent_until[record.name] = now + self._seconds
        record.exc_info = None
        return True
