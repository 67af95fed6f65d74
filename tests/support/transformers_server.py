"""`transformers serve` in a process of its own, as `duologue up` starts it; needs the environment with torch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.eventually import soon
from tests.support.requirements import require_ml

_SECONDS = 240.0


@contextmanager
def transformers_server(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Its URL, once it is healthy. `folder` takes its log and an empty hub cache: it asks nobody for models."""
    port = _free_port(host)
    (folder / "hub" / "hub").mkdir(parents=True)
    command = [str(require_ml().with_name("transformers")), "serve", "--host", host, "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--log-level", "error", "--dtype", "float32"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://{host}:{port}"

        def is_healthy() -> bool:
            assert process.poll() is None, (folder / "log").read_text()[-4000:]
            return _answers(f"{url}/health")

        soon(is_healthy, "transformers serve is healthy", _SECONDS)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (URLError, TimeoutError, ConnectionError):
        return False


def _free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])
