"""How fast the role-play engine is, beside a bare loop over the same requests: `make bench`.

The engine is measured on its whole path: requests on the embedded bus, the worker, structured self-talk with decisions,
dialogues on the bus, durable. The loop sends the utterances' requests alone, and neither asks for decisions nor keeps
anything. Both run in this process and take turns; a stub of a model server runs in another. Every figure is the median
of the repeats. A turn is one utterance of client or agent, two of them are a pair.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import engine
import results
from engine import Played
from raw_loop import RawLoop
from results import Row
from stub_process import StubProcess, stub

_MOST_DIALOGUES = 1024
_MEMORY_DIALOGUES = 1000
_MEMORY_LATENCY_MS = 200
# The example wordings of examples/workflows, each guessed from the others, are guessed right three times out of four.
_WRONG_GUESS_EVERY = 4


@dataclass(frozen=True)
class Arm:
    """The engine in one setting."""

    name: str
    speculate: bool = False
    wrong_guess_every: int = 0


@dataclass(frozen=True)
class Case:
    """Engines that are compared with one bare loop."""

    latency_ms: float
    concurrency: int
    arms: tuple[Arm, ...]


CASES = (
    Case(0, 32, (Arm("instant"), Arm("instant_speculating", speculate=True))),
    Case(0, 64, (Arm("instant_64"),)),
    Case(0, 2000, (Arm("instant_2000"),)),
    Case(100, 32, (Arm("100ms_32", speculate=True, wrong_guess_every=_WRONG_GUESS_EVERY),)),
    Case(
        100,
        64,
        (
            Arm("100ms", speculate=True, wrong_guess_every=_WRONG_GUESS_EVERY),
            Arm("100ms_guesses_right", speculate=True),
            Arm("100ms_sequential"),
        ),
    ),
)


@dataclass
class Measured:
    """One arm's repeats."""

    played: list[Played]
    requests: int = 0

    @property
    def turns_per_second(self) -> float:
        return statistics.median(played.turns_per_second for played in self.played)

    @property
    def requests_per_pair(self) -> float:
        return 2 * self.requests / sum(played.turns for played in self.played)


async def measure(case: Case, dialogues: int, repeats: int) -> tuple[dict[str, Measured], float]:
    """Each arm's repeats by its name, and the turns per second of the bare loop."""
    async with AsyncExitStack() as stack:
        stubs: dict[int, StubProcess] = {}
        for every in sorted({0, *(arm.wrong_guess_every for arm in case.arms)}):
            stubs[every] = stack.enter_context(stub(case.latency_ms, other_option_every=every))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bodies = await engine.chat_bodies(stubs[0].url, folder / "recorded")
        raw = await stack.enter_async_context(RawLoop(stubs[0].url, bodies))
        engines = {}
        for arm in case.arms:
            opened = engine.opened(stubs[arm.wrong_guess_every].url, folder / arm.name, speculate=arm.speculate)
            engines[arm.name] = await stack.enter_async_context(opened)
            await engines[arm.name].run(case.concurrency, case.concurrency)  # opens the connections
        await raw.run(case.concurrency, case.concurrency)
        measured = {arm.name: Measured([]) for arm in case.arms}
        bare: list[float] = []
        for _ in range(repeats):
            for arm in case.arms:
                before = stubs[arm.wrong_guess_every].requests()
                measured[arm.name].played.append(await engines[arm.name].run(dialogues, case.concurrency))
                measured[arm.name].requests += stubs[arm.wrong_guess_every].requests() - before
            bare.append(await raw.run(dialogues, case.concurrency))
        return measured, statistics.median(bare)


def memory_per_dialogue() -> float:
    """KiB by which a process grows for each dialogue that it plays at the same time."""
    with stub(_MEMORY_LATENCY_MS) as server:
        one, many = (_peak_kib(server.url, count) for count in (1, _MEMORY_DIALOGUES))
    return (many - one) / (_MEMORY_DIALOGUES - 1)


def _peak_kib(url: str, count: int) -> int:
    script = Path(__file__).with_name("memory.py")
    done = subprocess.run([sys.executable, str(script), url, str(count)], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


def run(dialogues: int, repeats: int) -> list[Row]:
    """All rows. `dialogues` are those of a measurement with 64 at once; with fewer at once it has fewer."""
    rows: list[Row] = []
    pairs: dict[str, float] = {}
    for case in CASES:
        count = max(min(dialogues * case.concurrency // 64, _MOST_DIALOGUES), case.concurrency)
        measured, bare = asyncio.run(measure(case, count, repeats))
        for name, arm in measured.items():
            value = arm.turns_per_second
            rows.append(Row(f"roleplay_turns_{name}", round(value), "turns/s", round(bare), round(value / bare, 3)))
            pairs[name] = arm.requests_per_pair
    rows.append(Row("roleplay_requests_per_turn_pair", round(pairs["instant"], 3), "requests"))
    rows.append(Row("roleplay_requests_speculating", round(pairs["100ms"], 3), "requests"))
    rows.append(Row("roleplay_memory_per_dialogue", round(memory_per_dialogue(), 1), "KiB"))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the role-play engine; writes bench/results.json.")
    parser.add_argument("--dialogues", type=int, default=256, help="dialogues of a measurement at concurrency 64")
    parser.add_argument("--repeats", type=int, default=3, help="how often everything is measured, taking turns")
    options = parser.parse_args()
    measured_rows = run(options.dialogues, options.repeats)
    results.keep("roleplay", measured_rows)
    results.show("Role-play engine; baseline: a bare aiohttp loop", measured_rows)
