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
        return sum(self._ask("counts").values())

    def refused(self) -> int:
        """How many it answered 429, which do not count as asked."""
        return self._ask("refused")["refused"]

    def _ask(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/stub/{what}") as response:  # noqa: S310  our own URL
            return dict(json.load(response))


@contextmanager
def stub(
    latency_ms: float, *, other_option_every: int = 0, knee: int = 0, refuse_beyond: int = 0
) -> Iterator[StubProcess]:
    """A stub that runs until the block is left; see `stub_server`."""
    options = {
        "latency-ms": latency_ms,
        "other-option-every": other_option_every,
        "knee": knee,
        "refuse-beyond": refuse_beyond,
    }
    command = [sys.executable, str(_SCRIPT), *(f"--{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield StubProcess(process.stdout.readline().strip())
        finally:
            process.terminate()
