"""How this command was called, so that what it advises can be pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(words: str) -> str:
    """`words` of this command after what calls it: its name where that finds it, else the shortest path to it."""
    return f"{_caller()} {words}"


def _caller() -> str:
    called = sys.argv[0]
    if called.endswith("__main__.py"):
        return f"{_shortest(sys.executable)} -m duologue.cli"
    name = Path(called).name
    # A shell that found it by its name passes on the whole path too.
    if os.sep not in called or os.path.realpath(shutil.which(name) or "") == os.path.realpath(called):
        return name
    return _shortest(called)


def _shortest(path: str) -> str:
    short = min(path, os.path.relpath(path), key=len)
    return shlex.quote(short if os.sep in short else f"./{short}")
