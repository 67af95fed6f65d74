"""A service of ours as a process, with settings from its environment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.brokers.cluster import free_ports

_PATIENCE_SECONDS = 120.0


@dataclass
class ServiceProcess:
    """It listens on `port` for gRPC, and on `metrics_port` for Prometheus."""

    process: asyncio.subprocess.Process
    port: int
    metrics_port: int

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")

    async def serves(self) -> None:
        """Waits until its health is SERVING."""
        async with self.channel() as channel, asyncio.timeout(_PATIENCE_SECONDS):
            health: Any = health_pb2_grpc.HealthStub(channel)
            async for answer in health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    async def metric(self, sample: str) -> float:
        """The value of a sample, written as Prometheus shows it: name{label="value"}."""
        async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{self.metrics_port}") as answer:
            lines = (await answer.text()).splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample)


@asynccontextmanager
async def service_process(module: str, folder: Path, **settings: object) -> AsyncIterator[ServiceProcess]:
    """Started, not waited for; killed at the end unless it has ended. Its log is `folder`/MODULE-PORT.log."""
    port, metrics_port = free_ports(2)
    ours = {"bus__url": f"sqlite:///{folder / 'bus.db'}", "artifacts__url": folder / "artifacts"}
    ports = {"grpc__port": port, "metrics__port": metrics_port}
    variables = {f"DUOLOGUE_{name.upper()}": str(value) for name, value in {**ours, **ports, **settings}.items()}
    with (folder / f"{module}-{port}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, cwd=folder, env={**os.environ, **variables}, stdout=log, stderr=log
        )
    try:
        yield ServiceProcess(process, port, metrics_port)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
