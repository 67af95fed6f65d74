"""Traces are sent where the environment says so, and otherwise nothing is there that could."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.core.problems import WrongSetting
from duologue.runtime.traces import start_traces
from duologue.telemetry import trace_of
from tests.support.brokers.cluster import free_ports
from tests.support.requirements import ROOT
from tests.support.service_process import service_process

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PATIENCE_SECONDS = 30.0
_OPEN = """
import asyncio, sys
from duologue.runtime import Runtime, ServiceSettings

async def main():
    async with Runtime("tiny", ServiceSettings()):
        print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])

asyncio.run(main())
"""


def loaded(folder: Path, **variables: str) -> str:
    """The modules of OpenTelemetry's SDK that a service has loaded when it is open."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", _OPEN],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_of_the_sdk_is_loaded(tmp_path: Path, variables: dict[str, str]) -> None:
    assert loaded(tmp_path, **variables) == "[]"


def test_with_one_it_is(tmp_path: Path) -> None:
    assert "opentelemetry.sdk.trace" in loaded(tmp_path, **{ENDPOINT: "http://127.0.0.1:9"})


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        (
            "OTEL_TRACES_EXPORTER",
            "zipkin",
            "OTEL_TRACES_EXPORTER is 'zipkin': traces are sent by otlp only, or by none",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "'http/protobuf' is not spoken"),
    ],
)
def test_another_way_to_send_them_is_refused_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, found: str
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting, match=found):
        start_traces("tiny")


async def test_a_collector_that_is_away_holds_up_neither_work_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nobody,) = free_ports(1)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{nobody}")
    async with service_process("tests.support.tiny_service", tmp_path) as service:
        await service.serves()
        async with service.channel() as channel:
            listing = channel.unary_unary("/duologue.v1.TrainingService/ListTrainings")
            await listing(b"")
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await service.process.wait() == 0


def test_trace_ids_are_spread_evenly_so_that_samplers_take_their_share() -> None:
    ids = [trace_of(f"dialogue-{number}") for number in range(4000)]
    assert len(set(ids)) == 4000
    share = sum(one % 2**64 < 2**64 // 10 for one in ids) / len(ids)
    assert share == pytest.approx(0.1, abs=0.02)
