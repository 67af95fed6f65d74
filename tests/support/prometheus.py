"""Prometheus' own checker of rules: the one on the path, or Debian's, unpacked beside the other caches."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.requirements import ROOT, missing

_UNPACKED = ROOT / ".cache/prometheus"
_SECONDS = 120


def require_promtool() -> Path:
    found = shutil.which("promtool")
    if found:
        return Path(found)
    promtool = _UNPACKED / "usr/bin/promtool"
    if not promtool.exists() and not _unpack():
        missing("there is no promtool: install Debian's prometheus, or put it on the path")
    return promtool


def _unpack() -> bool:
    """Whether the package could be had; it is not installed."""
    if not shutil.which("apt-get"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        if not _download(folder) and not (_run(folder, "apt-get", "update") and _download(folder)):
            return False
        (package,) = Path(folder).glob("prometheus_*.deb")
        _UNPACKED.mkdir(parents=True, exist_ok=True)
        return _run(folder, "dpkg", "-x", str(package), str(_UNPACKED))


def _download(folder: str) -> bool:
    return _run(folder, "apt-get", "download", "prometheus")


def _run(folder: str, *command: str) -> bool:
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False).returncode == 0
