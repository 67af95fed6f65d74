"""The stack of one machine: a file that compose takes, settings that there are, and no more rights than needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from duologue.runtime import load_settings
from duologue.runtime.settings import _variables
from tests.support.images import SERVICES, distribution
from tests.support.prometheus import require_promtool
from tests.support.requirements import ROOT
from tests.support.service_process import service_process

FOLDER = ROOT / "deploy/compose"
FILE = FOLDER / "compose.yaml"
STACK: dict[str, Any] = yaml.safe_load(FILE.read_text())
CONTAINERS: dict[str, dict[str, Any]] = STACK["services"]
every_container = pytest.mark.parametrize("name", CONTAINERS)
every_service = pytest.mark.parametrize("service", SERVICES)

# ${NAME}, ${NAME:-when it is empty}, ${NAME:?what to say when it is}
_REFERENCE = re.compile(r"\$\{(\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
_EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))


def filled(text: str, values: Mapping[str, str]) -> str:
    """As compose puts values into a text."""

    def value(reference: re.Match[str]) -> str:
        default = reference["rest"] if reference["kind"] == "-" else ""
        return values.get(reference[1]) or default

    return _REFERENCE.sub(value, text)


def test_compose_takes_the_file() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FILE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_of_an_environment_has_every_variable_and_no_other() -> None:
    assert set(_EXAMPLE) == {reference[1] for reference in _REFERENCE.finditer(FILE.read_text())}


def test_what_must_be_set_is_empty_in_the_example_and_nothing_that_is_secret_has_a_value() -> None:
    asked = {found[1] for found in _REFERENCE.finditer(FILE.read_text()) if found["kind"] == "?"}
    assert asked == {name for name in asked if not _EXAMPLE[name]}
    secret = {name for name in _EXAMPLE if re.search("PASSWORD|KEY", name)}
    assert {name for name in secret if _EXAMPLE[name]} == set()
    given = [item for container in CONTAINERS.values() for item in container.get("environment", {}).items()]
    assert [name for name, value in given if re.search("PASSWORD|KEY", name) and not value.startswith("${")] == []


@every_service
def test_a_service_takes_the_settings_that_it_is_given(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: value or "http://models.example" for name, value in _EXAMPLE.items()}
    kind = import_module(f"duologue_{service}.settings").Settings
    given = {name: str(value) for name, value in CONTAINERS[service]["environment"].items()}
    ours = {name.removeprefix("DUOLOGUE_") for name in given if name.startswith("DUOLOGUE_")}
    assert ours - set(_variables(kind)) == set()
    for name in [name for name in os.environ if name.startswith("DUOLOGUE_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, filled(value, values))
    settings = load_settings(kind, [])
    assert settings.bus.url == "kafka://kafka:9092"
    assert settings.drain_seconds < float(CONTAINERS[service]["stop_grace_period"].removesuffix("s"))


@every_service
def test_who_is_called_is_a_service_that_listens_there(service: str) -> None:
    environment = CONTAINERS[service]["environment"]
    for address in [value for name, value in environment.items() if name.endswith("__ADDRESS")]:
        host, _, port = address.partition(":")
        assert CONTAINERS[host]["environment"]["DUOLOGUE_GRPC__PORT"] == port


@every_container
def test_a_container_may_do_no_more_than_it_must(name: str) -> None:
    container = CONTAINERS[name]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert "memory" in container["deploy"]["resources"]["limits"]
    assert container.get("read_only") or name == "kafka"
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))
    assert {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"} & set(container) == set()


@every_container
def test_an_image_is_pinned(name: str) -> None:
    image = filled(CONTAINERS[name]["image"], {})
    repository, _, tag = image.rpartition(":")
    if repository.startswith("duologue-"):
        assert tag == distribution("campaign")["version"]
    else:
        assert repository.startswith("docker.io/")
        assert re.match(r"v?\d+\.\d+", tag)


@every_container
def test_what_others_wait_for_can_be_waited_for(name: str) -> None:
    for other, wait in CONTAINERS[name].get("depends_on", {}).items():
        is_a_step = CONTAINERS[other].get("restart") == "no"
        assert wait["condition"] == ("service_completed_successfully" if is_a_step else "service_healthy")
        assert is_a_step or "healthcheck" in CONTAINERS[other]


@every_container
def test_what_a_container_mounts_is_there(name: str) -> None:
    for mount in CONTAINERS[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (FOLDER / source).exists() if source.startswith(".") else source in STACK["volumes"]


def test_prometheus_takes_its_file_and_has_every_rule_and_every_service() -> None:
    command = [require_promtool(), "check", "config", "--syntax-only", FOLDER / "prometheus.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    files = {file.name: yaml.safe_load(file.read_text()) for file in (ROOT / "deploy/prometheus").glob("*.yaml")}
    assert {Path(file).name for file in config["rule_files"]} == {
        name for name, document in files.items() if "groups" in document
    }
    targets = {
        target for job in config["scrape_configs"] for part in job["static_configs"] for target in part["targets"]
    }
    ports = {service: CONTAINERS[service]["environment"]["DUOLOGUE_METRICS__PORT"] for service in SERVICES}
    assert targets == {f"{service}:{port}" for service, port in ports.items()}


async def test_a_container_is_healthy_once_its_service_serves(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'state.db'}"
    async with service_process("duologue_filtering", tmp_path, database__url=database) as service:
        await service.serves()
        assert _ask(service.port).returncode == 0
        service.process.kill()
        await service.process.wait()
        asked = _ask(service.port)
        assert asked.returncode == 1
        assert f"127.0.0.1:{service.port} does not answer" in asked.stderr


def _ask(port: int) -> subprocess.CompletedProcess[str]:
    """As the health check of a container does."""
    command = [sys.executable, FOLDER / "serving.py", f"127.0.0.1:{port}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)
