"""A stub model server in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("stub_server.py")


@dataclass(frozen=True)
class StubProcess:
    """Where the stub listens."""

    url: str

    def requests(self) -> int:
        """How many it has been asked."""
        with urllib.request.urlopen(f"{self.url}/stub/counts") as response:  # noqa: S310  our own URL
            return sum(json.load(response).values())


@contextmanager
def stub(latency_ms: float, *, other_option_every: int = 0) -> Iterator[StubProcess]:
    """A stub that runs until the block is left."""
    command = [sys.executable, str(_SCRIPT), f"--latency-ms={latency_ms}", f"--other-option-every={other_option_every}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield StubProcess(process.stdout.readline().strip())
        finally:
            process.terminate()
