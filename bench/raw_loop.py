"""The bar: the same chat requests, byte for byte, from a pooled aiohttp session and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp


class RawLoop:
    """Dialogues that are nothing but their requests, one after the other. Use as an async context manager."""

    def __init__(self, url: str, bodies: Sequence[bytes]) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._bodies = bodies

    async def __aenter__(self) -> RawLoop:
        headers = {"Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def run(self, dialogues: int, concurrency: int) -> float:
        """Play `dialogues`, `concurrency` at once; requests, which are turns here, per second."""
        left = dialogues

        async def talk() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                for body in self._bodies:
                    async with self._session.post(self._url, data=body) as response:
                        await response.read()

        started = time.perf_counter()
        await asyncio.gather(*(talk() for _ in range(concurrency)))
        return dialogues * len(self._bodies) / (time.perf_counter() - started)
