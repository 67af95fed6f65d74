"""Commands run with a home of their own, and nothing of the machine's settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What services log that run in this process is no output of a command."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("DUOLOGUE_") or name == "MODELS"]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("DUOLOGUE_HOME", str(home))
    return home
