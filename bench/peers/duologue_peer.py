"""Duologue: the role-play engine as bench/engine.py stands it up; requests, decisions and durable dialogues on the bus.

With `--speculate` as the last argument, the next utterance is asked for while the manager still decides.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import engine
from measurement import measure


class DuologuePeer:
    def __init__(self, url: str, concurrency: int, folder: Path, *, speculate: bool) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()
        opened = engine.opened(url, folder, speculate=speculate)
        self._engine = self._loop.run(self._stack.enter_async_context(opened))

    def play(self, dialogues: int) -> int:
        return self._loop.run(self._engine.run(dialogues, self._concurrency)).turns


if __name__ == "__main__":
    measure(partial(DuologuePeer, speculate="--speculate" in sys.argv))
