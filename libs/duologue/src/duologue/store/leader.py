"""One process at a time for work that must not be done by two, where replicas of a service share a database.

Who leads holds an advisory lock of PostgreSQL, by a session of its own: it is free the moment that the session ends. A
process that stands still, or is cut off, keeps its session, so the server drops one that says nothing for
`_SILENCE_SECONDS`. Before that, after `_LEASE_SECONDS`, its term is over by its own clock: whatever wakes up in it must
look at `Term.holds` before it does what only a leader may. What it has begun on the database is safe all the same, by
row locks and because it may be done twice.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from prometheus_client import Gauge
from sqlalchemy import Connection, text

from duologue.bus import RetryPolicy
from duologue.bus.waiting import set_within
from duologue.store.database import Database
from duologue.store.locks import LOCK_KEY
from duologue.store.outage import DatabaseUnavailable, outages

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LEADS = Gauge("duologue_leader", "1 while this process leads in the role, otherwise 0.", ("role",))

_BEAT_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_LEASE_SECONDS = 6.0
_SILENCE_SECONDS = 10.0
_RETRY = RetryPolicy(first=0.5, longest=5.0)

_ASK = text(f"SELECT pg_try_advisory_lock({LOCK_KEY})")
_BEAT = text("SELECT 1")


class Term:
    """A time of leading. Once it does not hold it never does again."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._until = time.monotonic() + seconds

    @property
    def holds(self) -> bool:
        return time.monotonic() < self._until

    def prolong(self, until: float) -> None:
        """`until`: by the monotonic clock. A term that is over stays so."""
        if self.holds:
            self._until = until


Work = Callable[[Term], Coroutine[Any, Any, None]]
"""Works for as long as the term holds. It is cancelled when the term is over, and begun anew with the next one."""


class Leader:
    """Does its work while this process leads in a role: on SQLite always, on PostgreSQL while no other process does.

    A database that goes away ends the term; after a pause this process stands again.
    """

    def __init__(self, database: Database, role: str, *work: Work) -> None:
        self._database = database
        self._role = role
        self._work = work
        self._outages = 0

    async def run(self) -> None:
        """Until cancelled. Raises what the work raises, but for `DatabaseUnavailable`."""
        _LEADS.labels(self._role).set(0)
        while True:
            try:
                await (self._stand() if self._database.is_shared else self._lead(Term()))
            except DatabaseUnavailable as error:
                self._outages += 1
                pause = _RETRY.delay(self._outages, random.random())
                log.warning("waits for the database", role=self._role, again_in=round(pause, 1), reason=str(error))
                await asyncio.sleep(pause)

    async def _stand(self) -> None:
        """Wait until no other process leads, then lead."""
        seat = _Seat(self._database, self._role)
        in_vain = 0
        try:
            while (term := await seat.ask()) is None:
                in_vain += 1
                self._outages = 0
                await asyncio.sleep(_BEAT_SECONDS)
            if in_vain:  # who led until now hears of it in this moment
                await asyncio.sleep(_BEAT_SECONDS)
            await self._lead(term, seat.keep)
        finally:
            await seat.leave()

    async def _lead(self, term: Term, *duties: Work) -> None:
        """Do the work, and what the term needs, until any of them ends."""
        self._outages = 0
        tasks = [asyncio.create_task(work(term)) for work in (*self._work, *duties)]
        _LEADS.labels(self._role).set(1)
        log.info("leads", role=self._role)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            _LEADS.labels(self._role).set(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            log.info("leads no more", role=self._role)


class _Seat:
    """The session that asks for a role's lock and, once it has it, holds it by being there."""

    def __init__(self, database: Database, role: str) -> None:
        self._database = database
        self._role = role
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leader")

    async def ask(self) -> Term | None:
        """A term, if no other process leads."""
        asked = time.monotonic()
        led = await self._do(lambda connection: bool(connection.scalar(_ASK, {"name": self._role})))
        return Term(asked + _LEASE_SECONDS - time.monotonic()) if led else None

    async def keep(self, term: Term) -> None:
        """Prolong the term until it is over. Raises `DatabaseUnavailable` when session and lock are gone."""
        while term.holds:
            await self._hear()
            asked = time.monotonic()
            await self._do(lambda connection: connection.execute(_BEAT))
            term.prolong(asked + _LEASE_SECONDS)

    async def _hear(self) -> None:
        """Until the server says something, as when it ends the session, for a beat at most."""
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket, heard.set)
        try:
            await set_within(heard, _BEAT_SECONDS)
        finally:
            loop.remove_reader(self._socket)

    async def leave(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _do(self, ask: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, ask)

    def _ask(self, ask: Callable[[Connection], T]) -> T:
        if self._connection is None:
            silence = {"idle_session_timeout": round(_SILENCE_SECONDS * 1000)}
            self._connection = self._database.connect_alone(silence, _ANSWER_SECONDS)
            self._socket: int = self._connection.connection.driver_connection.fileno()  # type: ignore[union-attr]
        with outages():
            return ask(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
