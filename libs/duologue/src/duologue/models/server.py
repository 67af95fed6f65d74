"""The servers of one model: which of them is asked, and what happens when one does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TypeVar

from duologue.models.completion import NOBODY, Caller
from duologue.models.connection import ModelUnavailable
from duologue.models.endpoint import Endpoint
from duologue.models.fingerprint import Fingerprint, TrainedAdapter, WrongAdapter
from duologue.models.gate import Gates, GaveUp
from duologue.models.patience import Patience
from duologue.models.replica import Replica

Answer = TypeVar("Answer")


class ModelServer:
    """One model, on one server or several alike. Use as an async context manager.

    `gates`: share them between the models of a process, so that one server has one gate.
    """

    def __init__(
        self, endpoint: Endpoint, gates: Gates | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoint = endpoint
        self._clock = clock
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
            async with replica.gate.admitted(NOBODY):
                await replica.show(served_model)

        outcomes = await asyncio.gather(*(look(replica) for replica in self.replicas), return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in sorted(failures, key=lambda failure: not isinstance(failure, WrongAdapter)):
            raise failure

    async def ask(self, caller: Caller, question: Callable[[Replica], Awaitable[Answer]]) -> Answer:
        """What a server answers; another one is asked where one does not, and all of them again after a pause.

        A server that does not serve the adapter is left out, and goes on with what else it is asked for. Raises
        `ModelUnavailable` when trouble goes on for longer than the endpoint's patience or until the caller's deadline,
        `WrongAdapter` when no server is left, `ModelRefused` at once.
        """
        if caller.deadline is None:
            return await self._ask(caller, question)
        try:
            async with asyncio.timeout_at(caller.deadline):
                return await self._ask(caller, question)
        except TimeoutError as error:
            raise ModelUnavailable(f"{self.endpoint.url} did not answer while anybody waited for it") from error

    async def _ask(self, caller: Caller, question: Callable[[Replica], Awaitable[Answer]]) -> Answer:
        order = self._order(caller)
        patience = Patience(self.endpoint.patience_seconds, caller.deadline, self._clock)
        while True:
            replica = _chosen(order)
            try:
                return await self._through(replica, order, caller, question, patience)
            except WrongAdapter:
                order = [other for other in order if other is not replica]
                if not order:
                    raise
            except GaveUp:
                if patience.is_over(replica.gate):
                    raise patience.trouble(replica.url) from None
            except ModelUnavailable as error:
                pause = patience.pause_after(error, len(order))
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def _through(
        self,
        replica: Replica,
        order: Sequence[Replica],
        caller: Caller,
        question: Callable[[Replica], Awaitable[Answer]],
        patience: Patience,
    ) -> Answer:
        """What this server answers, or where hedging is on another one that was faster."""

        def gives_up() -> bool:
            return patience.is_over(replica.gate) or _chosen(order) is not replica

        try:
            async with replica.gate.admitted(caller, gives_up) as admission:
                with replica.asked():
                    if not self.endpoint.hedge_seconds or len(order) == 1:
                        answer = await question(replica)
                    else:
                        answer, admission.is_idle = await self._hedged(replica, order, caller, question, patience)
        except WrongAdapter:
            raise  # the server is there
        except ModelUnavailable as error:
            replica.lost(error)
            raise
        if not admission.is_idle:
            replica.answered()
        return answer

    async def _hedged(
        self,
        first: Replica,
        order: Sequence[Replica],
        caller: Caller,
        question: Callable[[Replica], Awaitable[Answer]],
        patience: Patience,
    ) -> tuple[Answer, bool]:
        """The answer that comes first, and whether it is not the first server's; the other one's is cancelled."""
        asked = asyncio.ensure_future(question(first))
        tasks = [asked]
        try:
            await asyncio.wait(tasks, timeout=self.endpoint.hedge_seconds)
            others = (other for other in order if other is not first and other.is_there and other.gate.has_room)
            if not asked.done() and (second := next(others, None)):
                tasks.append(asyncio.ensure_future(self._through(second, [second], caller, question, patience)))
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        return task.result(), task is not asked
            return asked.result(), False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _order(self, caller: Caller) -> Sequence[Replica]:
        """The servers as this dialogue prefers them: always alike, so that one keeps its prompts in its prefix cache.

        Rendezvous hashing: when a server comes or goes, only the dialogues that it had move.
        """
        if len(self.replicas) == 1:
            return self.replicas
        return sorted(self.replicas, key=lambda replica: _weight(caller.dialogue, replica.url))


def _chosen(order: Sequence[Replica]) -> Replica:
    """The first that is there, or another one with room while that is crowded; the first of all when none is there."""
    if len(order) == 1:
        return order[0]
    there = [replica for replica in order if replica.is_there] or order
    if there[0].gate.is_crowded:
        return next((replica for replica in there if replica.gate.has_room), there[0])
    return there[0]


def _weight(dialogue: str, url: str) -> bytes:
    return hashlib.blake2b(f"{dialogue} {url}".encode(), digest_size=8).digest()
