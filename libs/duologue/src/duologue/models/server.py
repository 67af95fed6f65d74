"""The servers of one model: which of them is asked, and what happens when one does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TypeVar

from duologue.models.completion import Caller
from duologue.models.connection import ModelUnavailable
from duologue.models.endpoint import Endpoint
from duologue.models.fingerprint import Fingerprint, TrainedAdapter, WrongAdapter
from duologue.models.gate import Gates
from duologue.models.replica import Replica

_LONGEST_PAUSE_SECONDS = 10.0

Answer = TypeVar("Answer")


class ModelServer:
    """One model, on one server or several alike. Use as an async context manager.

    `gates`: share them between the models of a process, so that one server has one gate.
    """

    def __init__(
        self, endpoint: Endpoint, gates: Gates | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoint = endpoint
        self._expected: dict[str, TrainedAdapter] = {}
        gates = gates or Gates()
        self.replicas = [
            Replica(url, endpoint, gates.of(url, endpoint.connections), self._expected, clock) for url in endpoint.urls
        ]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ModelServer:
        for replica in self.replicas:
            await self._stack.enter_async_context(replica)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def expect(self, served_model: str, fingerprint: Fingerprint, folder: str = "") -> None:
        """From now on, a server is asked for this adapter only after it has answered the adapter's probes.

        `folder`: of its weights in the artifact store, for servers that load adapters when asked to.
        """
        self._expected[served_model] = TrainedAdapter(fingerprint, folder)

    async def show(self, served_model: str) -> None:
        """Have every server show that it serves this adapter.

        Raises what one of them raised that could not, `WrongAdapter` above all, after all were asked.
        """

        async def look(replica: Replica) -> None:
            async with replica.gate.admitted(""):
                await replica.show(served_model)

        outcomes = await asyncio.gather(*(look(replica) for replica in self.replicas), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: not isinstance(failure, WrongAdapter)):
            raise failure

    async def ask(self, caller: Caller, question: Callable[[Replica], Awaitable[Answer]]) -> Answer:
        """What a server answers; another one is asked where one does not, and all of them again after a pause.

        A server that does not serve the adapter is left out, and goes on with what else it is asked for. Raises
        `ModelUnavailable` when all attempts met an error that may pass, `WrongAdapter` when no server is left,
        `ModelRefused` at once for any other.
        """
        order = self._order(caller)
        for attempt in range(1, self.endpoint.attempts + 1):
            replica = _first_with_room(order)
            try:
                async with replica.gate.admitted(caller.campaign):
                    answer = await question(replica)
            except WrongAdapter:
                order = [other for other in order if other is not replica]
                if not order or attempt == self.endpoint.attempts:
                    raise
            except ModelUnavailable as error:
                replica.lost(error)
                if attempt == self.endpoint.attempts:
                    raise
                if all(other.rests for other in order):
                    await asyncio.sleep(_pause(attempt, error.retry_after))
            else:
                replica.answered()
                return answer
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _order(self, caller: Caller) -> Sequence[Replica]:
        """The servers as this dialogue prefers them: always alike, so that one keeps its prompts in its prefix cache.

        Rendezvous hashing: when a server comes or goes, only the dialogues that it had move.
        """
        if len(self.replicas) == 1:
            return self.replicas
        return sorted(self.replicas, key=lambda replica: _weight(caller.dialogue, replica.url))


def _first_with_room(order: Sequence[Replica]) -> Replica:
    """The first that is there and has room; else the first that is there; else the first."""
    if len(order) == 1:
        return order[0]
    there = [replica for replica in order if not replica.rests]
    return next((replica for replica in there if replica.gate.has_room), (there or order)[0])


def _weight(dialogue: str, url: str) -> bytes:
    return hashlib.blake2b(f"{dialogue} {url}".encode(), digest_size=8).digest()


def _pause(attempt: int, retry_after: float) -> float:
    """Seconds: what the server asks for, else twice as long each time and never two alike."""
    return min(max(retry_after, 0.2 * 2.0**attempt * (0.5 + random.random())), _LONGEST_PAUSE_SECONDS)
