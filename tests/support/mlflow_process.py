"""A real MLflow server, out of the environment of its own that `make .venv-mlflow/.ready` installs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.support.brokers.cluster import free_ports
from tests.support.eventually import soon
from tests.support.requirements import ROOT, missing

_MLFLOW = ROOT / ".venv-mlflow/bin/mlflow"
_START_SECONDS = 240.0
# Tells nobody, and runs no jobs of its own beside what is asked of it.
_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
}


@dataclass
class MlflowProcess:
    """A server with what it knows in a folder, to be killed and started again."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, folder: Path, *options: str) -> MlflowProcess:
        server = cls(folder, free_ports(1)[0], options)
        server.run()
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self) -> None:
        """Returns once it answers."""
        if not _MLFLOW.exists():
            missing("there is no MLflow server: run `make .venv-mlflow/.ready`")
        places = [
            f"--backend-store-uri=sqlite:///{self.folder / 'mlflow.db'}",
            f"--artifacts-destination={self.folder / 'artifacts'}",
        ]
        variables = {**os.environ, **_VARIABLES}
        command = [_MLFLOW, "server", "--host=127.0.0.1", f"--port={self.port}", "--workers=1", *places, *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        soon(self._answers, "MLflow answers", _START_SECONDS)

    @property
    def log(self) -> Path:
        return self.folder / "mlflow.log"

    def kill(self) -> None:
        """With its workers."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"MLflow ended:\n{self.log.read_text()[-2000:]}")
        try:
            with urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


@pytest.fixture(scope="session")
def mlflow_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowProcess]:
    """One server for all tests that don't kill it."""
    server = MlflowProcess.start(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.kill()


@pytest.fixture
def own_mlflow(tmp_path: Path) -> Iterator[MlflowProcess]:
    """A server that the test may kill."""
    server = MlflowProcess.start(tmp_path)
    yield server
    server.kill()
