"""How large a process becomes that plays dialogues: `python bench/memory.py URL COUNT` prints its peak in KiB.

All COUNT dialogues are open at the same time when the server at URL takes its time to answer. Run in a process of its
own, since a peak does not go away.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

import engine


async def play(url: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with engine.opened(url, Path(folder), connections=count) as opened:
            await opened.run(count, count)


def peak_kib() -> int:
    """Of this program: ru_maxrss would begin with what the process had before it was this program."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    asyncio.run(play(sys.argv[1], int(sys.argv[2])))
    print(peak_kib())
