"""The `duologue` command as a user runs it, in this process."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

from duologue.cli import main

_SNAKE_CASE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document; every name in it is snake_case."""
        document = json.loads(self.out)
        strange = [name for name in _names(document) if not _SNAKE_CASE.fullmatch(name)]
        assert strange == []
        return document


def duologue(*arguments: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["duologue", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            status: Any = 0
        except SystemExit as ended:
            status = ended.code or 0
    return Done(int(status), out.getvalue(), err.getvalue())


async def duologue_beside(*arguments: object) -> Done:
    """The same in a thread, while the services that it talks to run in this event loop."""
    return await asyncio.to_thread(duologue, *arguments)


def _names(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield name
            yield from _names(value)
    elif isinstance(document, list):
        for item in document:
            yield from _names(item)
