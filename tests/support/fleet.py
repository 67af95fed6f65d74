"""All services in copies, each started again when it ends, as an orchestrator does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from duologue.cli.local.processes import FEW_ARENAS
from tests.support import model_process
from tests.support.brokers.cluster import free_ports
from tests.support.requirements import ROOT, require_ml

SERVICES = ("campaign", "roleplay", "scoring", "filtering", "training")

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 60.0


@dataclass
class Copy:
    """One process of a service, over all its starts.

    `ends`: the exit statuses that nobody asked for. `held`: how many bytes it held, whenever it was looked at.
    """

    service: str
    number: int
    port: int
    log: Path
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    killed: bool = False
    ends: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.service}-{self.number}"

    def start(self) -> None:
        python = str(require_ml()) if self.service == "training" else sys.executable
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [python, "-m", f"duologue_{self.service}"], env=self.environment, stdout=log, stderr=log, cwd=ROOT
            )
        self.killed = False

    def signal(self, number: signal.Signals) -> None:
        """One that has just ended by itself is left alone."""
        assert self.process is not None
        if self.process.poll() is None:
            self.killed = self.killed or number is signal.SIGKILL
            self.process.send_signal(number)

    async def serves(self) -> bool:
        """Whether it says so, asked as an orchestrator would."""
        return await asyncio.to_thread(self._serves)

    def _serves(self) -> bool:
        """Not by grpc.aio: thousands of channels to processes that die have crashed one of its threads."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def look(self) -> None:
        """At what it holds; nothing while it is not there."""
        memory = 0
        with contextlib.suppress(psutil.Error):
            if self.process is not None and self.process.poll() is None:
                memory = psutil.Process(self.process.pid).memory_info().rss
        self.held.append(memory)


class Fleet:
    """Use as an async context manager; leaving it stops all copies in an orderly way."""

    def __init__(
        self, folder: Path, copies: Mapping[str, int], settings: Mapping[str, str], databases: Mapping[str, str]
    ) -> None:
        """`settings` are everybody's, by their variables without DUOLOGUE_; `databases` are URLs by service."""
        folder.mkdir(parents=True, exist_ok=True)
        ports = iter(free_ports(sum(copies.values())))
        places = {service: [next(ports) for _ in range(count)] for service, count in copies.items()}
        self._places = places
        common = {
            "DUOLOGUE_ARTIFACTS__URL": str(folder / "artifacts"),
            "DUOLOGUE_FILTERING__ADDRESS": self.address("filtering"),
            **({"DUOLOGUE_TRAINING__ADDRESS": self._each("training")} if "training" in copies else {}),
            **{f"DUOLOGUE_{name}": value for name, value in settings.items()},
        }
        self.copies = [
            Copy(
                service,
                number,
                port,
                folder / f"{service}-{number}.log",
                {
                    **os.environ,
                    **FEW_ARENAS,
                    **common,
                    **({"DUOLOGUE_DATABASE__URL": databases[service]} if service in databases else {}),
                    "DUOLOGUE_GRPC__PORT": str(port),
                    "DUOLOGUE_WORK": str(folder / f"work-{number}"),
                },
            )
            for service, of_service in places.items()
            for number, port in enumerate(of_service)
        ]
        self._keeping: asyncio.Task[None] | None = None

    def memory(self, service: str) -> tuple[int, int]:
        """The most bytes that a copy of the service held in the first half of the time, and in the second."""
        half = len(self.copies[0].held) // 2
        held = [copy.held for copy in self.copies if copy.service == service]
        return max(max(one[:half]) for one in held), max(max(one[half:]) for one in held)

    def address(self, service: str) -> str:
        """Of all copies, as gRPC takes it."""
        return "ipv4:" + self._each(service)

    def _each(self, service: str) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._places[service])

    async def __aenter__(self) -> Self:
        for copy in self.copies:
            copy.start()
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        for number in (signal.SIGCONT, signal.SIGTERM):
            for copy in self.copies:
                copy.signal(number)
        await asyncio.to_thread(self._wait)

    def _wait(self) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        for copy in self.copies:
            assert copy.process is not None
            try:
                copy.process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                copy.process.kill()
                raise AssertionError(f"{copy.name} does not stop: see {copy.log}") from None

    async def _keep(self) -> None:
        while True:
            for copy in self.copies:
                if copy.process is not None and (status := copy.process.poll()) is not None:
                    if not copy.killed:
                        copy.ends.append(status)
                    copy.start()
                copy.look()
            await asyncio.sleep(_LOOK_SECONDS)


@contextmanager
def instant_models(artifacts: Path) -> Iterator[str]:
    """The URL of a stub of a model server."""
    command = [sys.executable, model_process.__file__, str(artifacts)]
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        yield process.stdout.readline().strip()
