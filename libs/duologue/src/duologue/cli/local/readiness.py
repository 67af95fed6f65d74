"""Is everything up? Asked of the processes themselves."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from duologue.cli.connection import channel_to
from duologue.cli.local.layout import Layout, Ports
from duologue.cli.local.processes import MODEL_SERVERS, SLIM_SERVICES
from duologue.cli.local.supervisor import Supervisor
from duologue.cli.output import Failure
from duologue.contracts.v1 import roleplay_pb2, roleplay_pb2_grpc
from duologue.contracts.v1.dialogue_pb2 import AdapterRef

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
    return name in (*SLIM_SERVICES, "training") and is_serving(f"127.0.0.1:{ports.grpc(name)}")


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
        for state in supervisor.states() or []:
            if state.name in waiting and state.state in ("FATAL", "BACKOFF", "EXITED"):
                raise _does_not_come_up(supervisor, state.name, state.note)
        if waiting and time.monotonic() > deadline:
            raise _does_not_come_up(supervisor, waiting[0], f"it does not serve after {seconds:.0f} s")
        time.sleep(0.2)


def check_models(layout: Layout, adapters: Sequence[AdapterRef] = ()) -> list[roleplay_pb2.ModelStatus]:
    """What the role-play service says of its model servers, and whether they serve these adapters.

    It loads the models on the way. Raises `Failure` when it says nothing.
    """
    try:
        return ask_models(f"127.0.0.1:{layout.ports.roleplay}", adapters)
    except grpc.RpcError as error:
        is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        what = f"did not hear from the models in {_MODEL_SECONDS:.0f} s" if is_late else "does not answer"
        raise Failure(
            f"The role-play service {what}.\n"
            f"    See {layout.logs / 'roleplay.log'} and the logs of the model servers beside it."
        ) from None


def ask_models(address: str, adapters: Sequence[AdapterRef]) -> list[roleplay_pb2.ModelStatus]:
    """The same of a role-play service anywhere. Raises `grpc.RpcError`."""
    with channel_to(address) as channel:
        stub = roleplay_pb2_grpc.RoleplayServiceStub(channel)
        response = stub.CheckModels(roleplay_pb2.CheckModelsRequest(adapters=adapters), timeout=_MODEL_SECONDS)
    return list(response.models)


def _does_not_come_up(supervisor: Supervisor, name: str, why: str) -> Failure:
    log = supervisor.last_lines(name)
    return Failure(f"{name} does not come up: {why}." + (f" The end of its log:\n{log}" if log else ""))


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


def is_serving(address: str) -> bool:
    """What the service there says of its health; no when it says nothing."""
    with channel_to(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
