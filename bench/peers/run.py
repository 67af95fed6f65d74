"""How fast Duologue plays dialogues, beside other libraries that let two roles talk: `make bench-peers`.

Every library has an environment of its own, in .cache/bench-peers, from the exact versions in NAME.txt; every
measurement is a process of its own with a stub of a model server of its own. The libraries take turns. Every figure is
the median of the repeats. A turn is one utterance of agent or client that the model made.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from measurement import Measurement
from rich.console import Console
from rich.table import Table
from stub_process import stub

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_ENVIRONMENTS = _ROOT / ".cache" / "bench-peers"
_RESULTS = _HERE / "results.json"
_MEASUREMENT_SECONDS = 600
# Nobody is told of these runs, nothing is fetched, and no progress bar, chart or cache of answers slows a library down.
_VARIABLES = {
    "DO_NOT_TRACK": "1",
    "TELEMETRY_ENABLED": "false",
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "CURATOR_DISABLE_CACHE": "1",
}
# As in bench/roleplay.py: of the guesses at a reply one in four is wrong.
_WRONG_GUESS_EVERY = 4


@dataclass(frozen=True)
class Peer:
    """A library, and the script that plays dialogues with it. `package`: None for Duologue itself."""

    name: str
    script: str
    package: str | None = None
    options: tuple[str, ...] = ()
    wrong_guess_every: int = 0

    @property
    def requirements(self) -> Path:
        return _HERE / f"{self.name}.txt"

    @property
    def version(self) -> str:
        if self.package is None:
            return ""
        found = re.search(rf"^{self.package}==(\S+)", self.requirements.read_text(), re.MULTILINE)
        assert found is not None, f"{self.requirements} does not have {self.package}"
        return found[1]


@dataclass(frozen=True)
class Case:
    """How long the stub takes for an answer, and how many dialogues are played at once."""

    name: str
    latency_ms: float
    concurrency: int


@dataclass(frozen=True)
class Row:
    """A library in one case: the median and the ratio of it to Duologue's, or the reason why there is none."""

    peer: str
    version: str
    case: str
    turns_per_second: float | None = None
    ratio: float | None = None
    cpu_us_per_turn: float | None = None
    requests_per_turn: float | None = None
    reason: str = ""


@dataclass
class Measured:
    """The repeats of a library in one case; none after the first that failed, for `reason`."""

    measurements: list[Measurement] = field(default_factory=list)
    requests: int = 0
    reason: str = ""

    @property
    def turns_per_second(self) -> float:
        return statistics.median(measured.turns / measured.seconds for measured in self.measurements)

    @property
    def cpu_us_per_turn(self) -> float:
        return statistics.median(1e6 * measured.cpu_seconds / measured.turns for measured in self.measurements)

    @property
    def requests_per_turn(self) -> float:
        return self.requests / sum(measured.turns + measured.turns_before for measured in self.measurements)


class Failed(Exception):
    """A library can't be installed or does not get through; the text is what was printed about it."""


DUOLOGUE = Peer("duologue", "duologue_peer.py")
PEERS = (
    DUOLOGUE,
    Peer("duologue, speculate on", "duologue_peer.py", options=("--speculate",), wrong_guess_every=_WRONG_GUESS_EVERY),
    Peer("oumi", "oumi_peer.py", "oumi"),
    Peer("curator", "curator_peer.py", "bespokelabs-curator"),
    Peer("sdialog", "sdialog_peer.py", "sdialog"),
    Peer("afterimage", "afterimage_peer.py", "afterimage"),
)
CASES = (Case("instant, 32 at once", 0, 32), Case("100 ms, 64 at once", 100, 64))


def environment(peer: Peer) -> Path:
    """The Python that has the library, installed if it is not there yet or no longer as its requirements say."""
    if peer.package is None:
        return Path(sys.executable)
    folder = _ENVIRONMENTS / peer.name
    uv = str(Path(sys.executable).with_name("uv"))
    python = folder / "bin" / "python"
    if not python.exists():
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    install = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python)]
    _run([*install, str(peer.requirements)])
    return python


def play(peer: Peer, python: Path, case: Case, dialogues: int, into: Measured) -> None:
    """One measurement, in a process of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        stub(case.latency_ms, other_option_every=peer.wrong_guess_every) as server,
    ):
        arguments = [server.url, str(dialogues), str(case.concurrency), folder, *peer.options]
        output = _run([str(python), str(_HERE / peer.script), *arguments])
        measurement = Measurement(**json.loads(output.splitlines()[-1]))
        into.measurements.append(measurement)
        into.requests += server.requests()
    print(f"{case.name}, {peer.name}: {measurement.turns / measurement.seconds:.0f} turns/s", file=sys.stderr)


def _run(command: Sequence[str]) -> str:
    variables = {**os.environ, **_VARIABLES}
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, check=True, timeout=_MEASUREMENT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{Path(command[0]).name} was not done after {_MEASUREMENT_SECONDS} seconds") from None
    except subprocess.CalledProcessError as error:
        raise Failed(error.stderr.strip() or f"it ended with {error.returncode}") from None
    return done.stdout


def measure(peers: Sequence[Peer], dialogues: int, repeats: int) -> list[Row]:
    """All rows. `dialogues` are those of a measurement with 64 at once; with fewer at once it has fewer."""
    measured: dict[tuple[Case, Peer], Measured] = defaultdict(Measured)
    pythons: dict[Peer, Path] = {}
    for peer in peers:
        try:
            pythons[peer] = environment(peer)
        except Failed as failure:
            for case in CASES:
                measured[case, peer].reason = f"does not install: {str(failure).splitlines()[0].strip()}"
    for _ in range(repeats):
        for case in CASES:
            for peer in peers:
                into = measured[case, peer]
                if into.reason:
                    continue
                try:
                    play(peer, pythons[peer], case, dialogues * case.concurrency // 64, into)
                except Failed as failure:
                    into.reason = f"does not get through: {str(failure).splitlines()[-1].strip()}"
    return [_row(case, peer, measured[case, peer], measured[case, DUOLOGUE]) for case in CASES for peer in peers]


def _row(case: Case, peer: Peer, measured: Measured, duologue: Measured) -> Row:
    if measured.reason:
        return Row(peer.name, peer.version, case.name, reason=measured.reason)
    value = measured.turns_per_second
    ratio = None if duologue.reason else round(value / duologue.turns_per_second, 3)
    cpu, requests = round(measured.cpu_us_per_turn), round(measured.requests_per_turn, 2)
    return Row(peer.name, peer.version, case.name, round(value), ratio, cpu, requests)


def show(rows: Sequence[Row]) -> None:
    for case in CASES:
        table = Table(title=f"{case.name}, {os.cpu_count()} cores; ratio to duologue")
        table.add_column("library", no_wrap=True)
        for heading in ("turns/s", "ratio", "CPU us", "requests"):
            table.add_column(heading, justify="right")
        table.add_column("reason")
        for row in rows:
            if row.case == case.name:
                figures = (row.turns_per_second, row.ratio, row.cpu_us_per_turn, row.requests_per_turn)
                shown = ("" if figure is None else f"{figure:g}" for figure in figures)
                table.add_row(f"{row.peer} {row.version}", *shown, row.reason)
        Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Duologue beside its peers; writes bench/peers/results.json.")
    parser.add_argument("--dialogues", type=int, default=256, help="dialogues of a measurement at concurrency 64")
    parser.add_argument("--repeats", type=int, default=3, help="how often everything is measured, taking turns")
    options = parser.parse_args()
    rows = measure(PEERS, options.dialogues, options.repeats)
    _RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
