"""A real Prometheus and its checker of rules: those on the path, or Debian's, unpacked beside the other caches."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.brokers.cluster import free_ports
from tests.support.eventually import soon
from tests.support.requirements import ROOT, missing

_UNPACKED = ROOT / ".cache/prometheus"
_SECONDS = 120
_MOST_POINTS = 5_000


@dataclass(frozen=True)
class Series:
    """What a query found: labels, and values over time without those that are none."""

    labels: Mapping[str, str]
    values: Sequence[float]


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes every second and evaluates its rules as often."""

    url: str
    started: float

    def query(self, expr: str) -> list[Series]:
        """What an expression gives now. One that is wrong fails the test."""
        found = self._ask("query", query=expr)
        return [Series(each["metric"], _numbers([each["value"]])) for each in found]

    def over(self, expr: str) -> list[Series]:
        """What it gave at each moment since the start; series that never had a number are left out."""
        now = time.time()
        step = max((now - self.started) / _MOST_POINTS, 1.0)
        end = now + step  # or the last moment would be before what came since
        found = self._ask("query_range", query=expr, start=str(self.started), end=str(end), step=str(step))
        series = [Series(each["metric"], _numbers(each["values"])) for each in found]
        return [each for each in series if each.values]

    def _ask(self, path: str, **arguments: str) -> list[Any]:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310
                return list(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments['query']}: {error.read().decode()}") from error


def require_promtool() -> Path:
    return _program("promtool")


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], rules: Path) -> Iterator[Prometheus]:
    """Scraping ports of this machine, by the name of the job; `rules` is the file of its alerts."""
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()]
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump({"global": every, "rule_files": [str(rules)], "scrape_configs": jobs}))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [_program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'series'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        soon(lambda: _is_ready(address), f"Prometheus is ready: see {folder / 'prometheus.log'}")
        yield Prometheus(f"http://{address}", time.time())
    finally:
        process.kill()
        process.wait()


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=1):
            return True
    except OSError:
        return False


def _numbers(values: Sequence[tuple[float, str]]) -> list[float]:
    return [float(value) for _, value in values if value != "NaN"]


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found:
        return Path(found)
    program = _UNPACKED / "usr/bin" / name
    if not program.exists() and not _unpack():
        missing(f"there is no {name}: install Debian's prometheus, or put it on the path")
    return program


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
