"""Is everything up? Asked of the processes themselves."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from duologue.cli.local.layout import Ports
from duologue.cli.local.processes import MODEL_SERVERS, SLIM_SERVICES
from duologue.cli.local.supervisor import Supervisor
from duologue.cli.output import Failure
from duologue.contracts.v1 import roleplay_pb2, roleplay_pb2_grpc

_CALL_SECONDS = 2.0
_MODEL_SECONDS = 90.0


def busy_ports(ports: Ports, names: list[str]) -> list[tuple[str, int]]:
    """Ports that something else listens on, with the process that wants them."""
    wanted: list[tuple[str, int]] = []
    for name in names:
        if name in MODEL_SERVERS:
            wanted.append((name, ports.client_model if name == "model-client" else ports.agent_model))
        else:
            wanted += [(name, ports.grpc(name)), (f"{name} metrics", ports.metrics(name))]
    return [(name, port) for name, port in wanted if _is_busy(port)]


def is_ready(name: str, ports: Ports) -> bool:
    """Whether a process serves."""
    if name in MODEL_SERVERS:
        port = ports.client_model if name == "model-client" else ports.agent_model
        return _answers(f"http://127.0.0.1:{port}/health")
    return name in (*SLIM_SERVICES, "training") and _is_serving(f"127.0.0.1:{ports.grpc(name)}")


def wait_until_ready(
    supervisor: Supervisor, ports: Ports, names: list[str], seconds: float, told: Callable[[str], None]
) -> None:
    """Wait for every process; `told` hears of each. Raises `Failure` with the log of one that does not come up."""
    deadline = time.monotonic() + seconds
    waiting = list(names)
    while waiting:
        for name in [name for name in waiting if is_ready(name, ports)]:
            waiting.remove(name)
            told(name)
        failed = [s.name for s in supervisor.states() or [] if s.state in ("FATAL", "BACKOFF", "EXITED")]
        broken = next((name for name in failed if name in waiting), None)
        if broken or (waiting and time.monotonic() > deadline):
            name = broken or waiting[0]
            raise Failure(f"{name} does not come up. The end of its log:\n{supervisor.last_lines(name)}")
        time.sleep(0.2)


def check_models(ports: Ports) -> list[roleplay_pb2.ModelStatus]:
    """What the role-play service says of its model servers; it loads the models on the way."""
    with grpc.insecure_channel(f"127.0.0.1:{ports.roleplay}") as channel:
        stub = roleplay_pb2_grpc.RoleplayServiceStub(channel)
        response = stub.CheckModels(roleplay_pb2.CheckModelsRequest(), timeout=_MODEL_SECONDS)
    return list(response.models)


def _is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_CALL_SECONDS) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def _is_serving(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
