"""The processes of one machine: their commands, and the settings file that each is given."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from duologue.cli.local.layout import Layout, Ports
from duologue.cli.local.models import LocalModel

SLIM_SERVICES = ("campaign", "roleplay", "scoring", "filtering")
MODEL_SERVERS = ("model-client", "model-agent")


@dataclass(frozen=True)
class Process:
    """One process under the supervisor."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def processes(layout: Layout, ports: Ports, model: LocalModel, python: Path | None) -> list[Process]:
    """All processes, model servers first. Writes the settings files of the services."""
    servers = [] if model.url or python is None else _model_servers(layout, ports, model, python)
    layout.config.mkdir(parents=True, exist_ok=True)
    services = []
    for service in (*SLIM_SERVICES, "training"):
        interpreter = python if service == "training" else Path(sys.executable)
        if interpreter is None:
            continue
        file = layout.config / f"{service}.yaml"
        file.write_text(_HEADER + yaml.safe_dump(_settings(service, layout, ports, model), sort_keys=False))
        environment = {"DUOLOGUE_CONFIG": str(file), "PYTHONUNBUFFERED": "1", **FEW_ARENAS}
        if service == "training":
            environment |= _offline(layout, model)
        services.append(Process(service, [str(interpreter), "-m", f"duologue_{service}"], environment))
    return [*servers, *services]


# glibc gives threads memory of their own and keeps it, and a service has some twenty threads.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
_HEADER = "# Written by `duologue up`; change its flags instead, or set DUOLOGUE_... in the environment.\n"


def _model_servers(layout: Layout, ports: Ports, model: LocalModel, python: Path) -> list[Process]:
    """Client and agent have a server each, as in a cluster; each computes in one thread, so two fill two cores."""
    environment = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **_offline(layout, model)}
    command = [str(python.with_name("transformers")), "serve", "--host", "127.0.0.1", "--log-level", "error"]
    command += ["--dtype", "float32", "--model-timeout", "3600"]
    return [
        Process("model-client", [*command, "--port", str(ports.client_model)], environment),
        Process("model-agent", [*command, "--port", str(ports.agent_model)], environment),
    ]


def _offline(layout: Layout, model: LocalModel) -> dict[str, str]:
    """A model that lies on this disk needs no hub; asking one would only cost time, or fail without a network."""
    hub = layout.home / "hub"
    (hub / "hub").mkdir(parents=True, exist_ok=True)
    return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(hub)} if model.is_local else {}


def _settings(service: str, layout: Layout, ports: Ports, model: LocalModel) -> dict[str, Any]:
    client = {"url": model.url or f"http://127.0.0.1:{ports.client_model}", "model": model.name}
    agent = {"url": model.url or f"http://127.0.0.1:{ports.agent_model}", "model": model.name}
    settings: dict[str, Any] = {
        "bus": {"url": layout.bus_url},
        "grpc": {"port": ports.grpc(service)},
        "metrics": {"port": ports.metrics(service)},
        "artifacts": {"url": str(layout.artifacts)},
    }
    own: dict[str, dict[str, Any]] = {
        "campaign": {
            "database": {"url": f"sqlite:///{layout.home / 'campaign.db'}"},
            "filtering": {"address": f"127.0.0.1:{ports.filtering}"},
            "training": {"address": f"127.0.0.1:{ports.training}"},
            "base_model": "" if model.url else model.name,
        },
        "roleplay": {"models": {"client": client, "agent": agent, "manager": client}},
        "scoring": {"judge": client},
        "filtering": {"database": {"url": f"sqlite:///{layout.home / 'filtering.db'}"}},
        "training": {"work": str(layout.home / "training")},
    }
    return settings | own[service]
