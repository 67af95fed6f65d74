"""A broker, a database and services as processes of their own, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from duologue.bus.kafka.options import KafkaOptions
from duologue.bus.kafka.topics import Topics
from tests.support.brokers.cluster import KafkaCluster, free_ports
from tests.support.postgres import PostgresServer

_START_SECONDS = 60.0
PARTITIONS = 8


@dataclass(frozen=True)
class Cluster:
    """What services are pointed at. `server`: the broker's host:port."""

    folder: Path
    server: str
    database: str

    @property
    def url(self) -> str:
        return f"kafka://{self.server}"


@dataclass(frozen=True)
class Service:
    """A running service. `address`: where it speaks gRPC."""

    address: str
    process: subprocess.Popen[bytes]

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has taken so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """One broker and one PostgreSQL, with the topics of Duologue."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = KafkaCluster.start(folder / "kafka")
        stack.callback(kafka.close)
        server = PostgresServer.start()
        stack.callback(server.close)
        with Topics.of(f"kafka://{kafka.bootstrap}", KafkaOptions()) as topics:
            for difference in topics.compare(partitions=PARTITIONS):
                topics.mend(difference)
        yield Cluster(folder, kafka.bootstrap, server.url)


@asynccontextmanager
async def service(cluster: Cluster, *command: str, **settings: str) -> AsyncIterator[Service]:
    """`command`: what Python runs. Stopped as an orchestrator does, in an orderly way."""
    (port,) = free_ports(1)
    environment = {
        "BUS__URL": cluster.url,
        "ARTIFACTS__URL": str(cluster.folder / "artifacts"),
        "GRPC__PORT": str(port),
        **settings,
    }
    process = _start(command, environment, cluster.folder / "services.log")
    try:
        await _serves(f"127.0.0.1:{port}", process)
        yield Service(f"127.0.0.1:{port}", process)
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)


def _start(command: Sequence[str], environment: Mapping[str, str], file: Path) -> subprocess.Popen[bytes]:
    variables = {**os.environ, **{f"DUOLOGUE_{name}": value for name, value in environment.items()}}
    with file.open("ab") as log:
        return subprocess.Popen([sys.executable, *command], env=variables, stdout=log, stderr=log)


async def _serves(address: str, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(_START_SECONDS), grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while process.poll() is None:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the service ended with {process.returncode}")
