"""Waiting for a condition with a deadline, where nothing tells when it holds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_SECONDS = 0.02


async def eventually(claim: Callable[[], Awaitable[T]], what: str, seconds: float = 30.0) -> T:
    """What `claim` returns as soon as that is true; fails with `what` and the last answer at the deadline."""
    deadline = time.monotonic() + seconds
    while not (answer := await claim()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what} (last: {answer!r})"
        await asyncio.sleep(_PAUSE_SECONDS)
    return answer


def soon(claim: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The same without an event loop."""
    deadline = time.monotonic() + seconds
    while not (answer := claim()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what} (last: {answer!r})"
        time.sleep(_PAUSE_SECONDS)
    return answer
