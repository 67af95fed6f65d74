"""What comes out of a model server that degrades when too much is asked of it at once: `make bench`.

With more than 32 requests at once the stub gives less, and answers 429 beyond 128. First a bare loop finds the best
fixed number of requests at once; then the engine plays 256 dialogues at once through its gate, which has to find that
number by itself. Goodput is answers per second.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import engine
import results
import scenario
from results import Row
from stub_process import StubProcess, stub

KNEE = 32
_REFUSE_BEYOND = 128
_LATENCY_MS = 100
_DIALOGUES_AT_ONCE = 256
_FIXED = (8, 16, 24, 28, 32, 36, 40, 48, 64, 96, 128)
_REQUESTS_OF_A_DIALOGUE = scenario.TURNS + scenario.TURNS // 2


@dataclass(frozen=True)
class Came:
    """Answers a second, and the time that nearly all of them were waited for at most."""

    goodput: float
    p99: float


async def fixed(url: str, body: bytes, at_once: int, seconds: float) -> Came:
    """A bare loop with that many requests at once."""
    waited: list[float] = []
    started = time.perf_counter()
    end = started + seconds
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def ask() -> None:
            while (asked := time.perf_counter()) < end:
                async with session.post(f"{url}/v1/chat/completions", data=body) as response:
                    await response.read()
                waited.append(time.perf_counter() - asked)

        await asyncio.gather(*(ask() for _ in range(at_once)))
    return Came(len(waited) / (time.perf_counter() - started), p99(waited))


async def through_the_gate(served: StubProcess, folder: Path, dialogues: int) -> Came:
    """The engine with more dialogues than the server bears, when a fifth is done and until four fifths are."""
    waited: list[float] = []
    total = dialogues * _REQUESTS_OF_A_DIALOGUE
    opened = engine.opened(served.url, folder, connections=_DIALOGUES_AT_ONCE, seconds=waited)
    async with opened as playing:
        running = asyncio.create_task(playing.run(dialogues, _DIALOGUES_AT_ONCE))
        first, started = await _answered(waited, total // 5)
        last, ended = await _answered(waited, total * 4 // 5)
        await running
    return Came((last - first) / (ended - started), p99(waited[first:last]))


async def _answered(waited: list[float], count: int) -> tuple[int, float]:
    """How many answers there are, as soon as these are that many, and when that was."""
    while len(waited) < count:  # noqa: ASYNC110  what fills it knows nothing of us
        await asyncio.sleep(0.02)
    return len(waited), time.perf_counter()


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


async def measure(dialogues: int, seconds: float, repeats: int) -> list[Row]:
    found: dict[int, list[Came]] = {at_once: [] for at_once in _FIXED}
    gated: list[Came] = []
    refused = 0
    with (
        stub(_LATENCY_MS, knee=KNEE, refuse_beyond=_REFUSE_BEYOND) as served,
        tempfile.TemporaryDirectory() as name,
    ):
        body = (await engine.chat_bodies(served.url, Path(name) / "recorded"))[-1]
        for repeat in range(repeats):
            for at_once, came in found.items():
                came.append(await fixed(served.url, body, at_once, seconds))
            before = served.refused()
            gated.append(await through_the_gate(served, Path(name) / f"gated-{repeat}", dialogues))
            refused += served.refused() - before
    best = max(statistics.median(one.goodput for one in came) for came in found.values())
    at_knee = statistics.median(one.p99 for one in found[KNEE])
    unguarded = statistics.median(one.goodput for one in found[max(_FIXED)])
    goodput = statistics.median(one.goodput for one in gated)
    slowest = statistics.median(one.p99 for one in gated)
    asked = repeats * dialogues * _REQUESTS_OF_A_DIALOGUE
    return [
        Row("overload_goodput", round(goodput, 1), "answers/s", round(best, 1), round(goodput / best, 3)),
        Row(
            "overload_goodput_128_at_once", round(unguarded, 1), "answers/s", round(best, 1), round(unguarded / best, 3)
        ),
        Row("overload_p99", round(1000 * slowest), "ms", round(1000 * at_knee), round(slowest / at_knee, 3)),
        Row("overload_refused", refused, "requests", asked, round(refused / asked, 5)),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure the gate under overload; writes bench/results.json.")
    parser.add_argument("--dialogues", type=int, default=512, help="dialogues of a measurement through the gate")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a measurement with a fixed number at once")
    parser.add_argument("--repeats", type=int, default=3, help="how often everything is measured, taking turns")
    options = parser.parse_args()
    rows = asyncio.run(measure(options.dialogues, options.seconds, options.repeats))
    results.keep("overload", rows)
    results.show("Overload; baseline: the best fixed number of requests at once, p99: 32 at once", rows)
