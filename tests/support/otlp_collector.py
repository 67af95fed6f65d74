"""A collector of traces, as OpenTelemetry's own is to whoever sends: OTLP by gRPC, the spans decoded and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from duologue.telemetry import trace_of


@dataclass(frozen=True)
class Seen:
    """A span as it came. Ids are in hexadecimal; `parent` is empty for one that has none."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    links: tuple[str, ...]
    failed: bool

    @property
    def place(self) -> tuple[str, str]:
        """Who did what."""
        return self.service, self.name


@dataclass
class OtlpCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """`spans` are all that came, in the order of coming; `address` as senders take it."""

    address: str = ""
    spans: list[Seen] = field(default_factory=list)

    async def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for of_process in request.resource_spans:
            resource = _values(of_process.resource.attributes)
            for of_library in of_process.scope_spans:
                self.spans += [_seen(str(resource["service.name"]), span) for span in of_library.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace_of(self, key: str) -> list[Seen]:
        """The spans of the records with this key."""
        return [span for span in self.spans if span.trace == f"{trace_of(key):032x}"]

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def sent_to(self, monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
        """Processes that are started from now on send their traces here, soon; `variables` are OpenTelemetry's."""
        ours = {"EXPORTER_OTLP_ENDPOINT": f"http://{self.address}", "BSP_SCHEDULE_DELAY": "50"}
        for name, value in (ours | variables).items():
            monkeypatch.setenv(f"OTEL_{name}", value)


def edges(spans: Iterable[Seen]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Who did what, and what came of it where."""
    spans = list(spans)
    by_id = {span.id: span for span in spans}
    return {(by_id[span.parent].place, span.place) for span in spans if span.parent in by_id}


@asynccontextmanager
async def otlp_collector() -> AsyncIterator[OtlpCollector]:
    collector = OtlpCollector()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield collector
    await server.stop(grace=0)


def _seen(service: str, span: trace_pb2.Span) -> Seen:
    return Seen(
        service=service.removeprefix("duologue-"),
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        links=tuple(link.trace_id.hex() for link in span.links),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
    )


def _values(attributes: Iterable[common_pb2.KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, str(kind))
