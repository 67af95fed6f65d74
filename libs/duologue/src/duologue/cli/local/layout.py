"""Where things lie on one machine, and on which ports they listen."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

HOME_VARIABLE = "DUOLOGUE_HOME"
ML_PYTHON_VARIABLE = "DUOLOGUE_ML_PYTHON"
PORT_BASE_VARIABLE = "DUOLOGUE_PORT_BASE"
DEFAULT_PORT_BASE = 7400


@dataclass(frozen=True)
class Ports:
    """Ports of everything that listens, counted from one base."""

    base: int = DEFAULT_PORT_BASE

    @property
    def campaign(self) -> int:
        return self.base + 1

    @property
    def roleplay(self) -> int:
        return self.base + 2

    @property
    def scoring(self) -> int:
        return self.base + 3

    @property
    def filtering(self) -> int:
        return self.base + 4

    @property
    def training(self) -> int:
        return self.base + 5

    def grpc(self, service: str) -> int:
        return int(getattr(self, service))

    def metrics(self, service: str) -> int:
        return self.grpc(service) + 10

    @property
    def client_model(self) -> int:
        return self.base + 21

    @property
    def agent_model(self) -> int:
        return self.base + 22


@dataclass(frozen=True)
class State:
    """What `up` was asked for; kept so that other commands find it."""

    port_base: int
    models: str


@dataclass(frozen=True)
class Layout:
    """The folder with all local state (DUOLOGUE_HOME, by default .duologue in the working directory)."""

    home: Path

    @classmethod
    def here(cls) -> Layout:
        return cls(Path(os.environ.get(HOME_VARIABLE, ".duologue")).absolute())

    @property
    def state(self) -> State | None:
        try:
            return State(**json.loads(self.state_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def remember(self, state: State) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        temporary = self.state_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(state)))
        temporary.replace(self.state_file)

    @property
    def ports(self) -> Ports:
        state = self.state
        return Ports(state.port_base) if state else Ports()

    @property
    def state_file(self) -> Path:
        return self.home / "local.json"

    @property
    def config(self) -> Path:
        return self.home / "config"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"

    @property
    def models(self) -> Path:
        return self.home / "models"

    @property
    def bus_url(self) -> str:
        return f"sqlite:///{self.home / 'bus.db'}"

    @property
    def supervisor_socket(self) -> Path:
        """In the system's temporary folder: the path of a Unix socket must be shorter than about 100 characters."""
        name = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"duologue-{os.getuid()}-{name}.sock"


def repository() -> Path | None:
    """The checkout that this package is installed from, where it is one."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "deploy" / "local").is_dir() and (folder / "services").is_dir():
            return folder
    return None


def ml_python() -> Path | None:
    """The interpreter of the environment with torch: DUOLOGUE_ML_PYTHON, or .venv-ml beside this one."""
    named = os.environ.get(ML_PYTHON_VARIABLE)
    if named:
        return Path(named)
    beside = Path(sys.prefix).with_name(".venv-ml") / "bin" / "python"
    return beside if beside.exists() else None


def missing_ml_python() -> str:
    """What to do for an interpreter with torch; empty where there is one."""
    python = ml_python()
    if python is None:
        return f"Run `make setup` in the repository, or set {ML_PYTHON_VARIABLE} to its interpreter."
    if not os.access(python, os.X_OK) or not python.is_file():
        return f"{ML_PYTHON_VARIABLE} is {python}, which is no program: set it to an interpreter, or unset it."
    return ""
