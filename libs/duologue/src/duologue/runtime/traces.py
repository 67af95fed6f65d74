"""Traces, where the environment names a collector for them, by the variables that OpenTelemetry gives them all.

This alone knows OpenTelemetry's SDK, and loads it only then.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace

from duologue.core.problems import WrongSetting
from duologue.telemetry import wanted_trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = structlog.get_logger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def start_traces(service: str) -> Callable[[], None] | None:
    """Send traces to the collector; what is returned sends the last ones, and blocks. None where no collector is named.

    Raises `WrongSetting` for another protocol or exporter than ours.
    """
    endpoint = _first(_ENDPOINTS)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if not endpoint or exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if exporter not in ("", "otlp"):
        raise WrongSetting(f"OTEL_TRACES_EXPORTER is {exporter!r}: traces are sent by otlp only, or by none")
    protocol = _first(_PROTOCOLS)
    if protocol not in ("", "grpc"):
        raise WrongSetting(
            f"{protocol!r} is not spoken (variable {_PROTOCOLS[1]}): set it to grpc, and the port to that"
        )
    provider = _provider(service)
    trace.set_tracer_provider(provider)
    log.info("traces are sent", endpoint=endpoint)
    return provider.shutdown


def _provider(service: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class TraceIds(RandomIdGenerator):
        """The trace that is wanted, or else any."""

        def generate_trace_id(self) -> int:
            return wanted_trace.get() or super().generate_trace_id()

    ours = {
        "service.name": f"duologue-{service}",
        "service.version": version("duologue"),
        "service.instance.id": str(uuid.uuid4()),
    }
    # What the environment says of the resource wins.
    resource = Resource.create(ours).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, id_generator=TraceIds(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _first(variables: tuple[str, ...]) -> str:
    """What the first of the variables that is set says."""
    return next((value for name in variables if (value := os.environ.get(name, "").strip())), "")
