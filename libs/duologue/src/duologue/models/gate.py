"""Who may ask a server now: no more at once than its limit, and of those who wait one of each campaign in turns.

Of a campaign, the dialogue that was begun first goes first. So a server with too much to do works dialogues off, a few
at a time, instead of being a turn ahead in all of them: they end sooner, and their prompts are still in its prefix
cache when the next turn comes. How many requests are let through is `limit`'s. A server that refuses for having too
much to do (429, 503) is left alone for as long as it asks, or else for a moment that doubles; then one request feels
its way, and the others follow when it is answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from types import TracebackType
from typing import NamedTuple

from prometheus_client import Gauge, Histogram

from duologue.models.completion import Caller
from duologue.models.connection import GONE, ModelUnavailable
from duologue.models.fingerprint import WrongAdapter
from duologue.models.limit import Limit
from duologue.telemetry import observe

_LIMIT = Gauge("duologue_model_limit", "Requests that a model server is given at once at most.", ("server",))
_RUNNING = Gauge("duologue_model_running", "Requests under way to a model server.", ("server",))
_WAITING = Gauge("duologue_model_waiting", "Requests that wait until a model server has room.", ("server",))
_CLOSED = Gauge(
    "duologue_model_closed", "1 while a model server refuses for having too much to do, otherwise 0.", ("server",)
)
_WAIT_SECONDS = Histogram(
    "duologue_model_wait_seconds",
    "Time that requests waited until a model server had room; those that found room at once are not among them.",
    ("server",),
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)

# It is there and has too much to do.
TOO_MUCH = (429, 503)
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
# How often who waits looks whether to go on waiting.
_LOOK_SECONDS = 1.0
# What a server asks for is heard up to this: its slip must not cost an hour.
LONGEST_CLOSURE_SECONDS = 60.0


class _Waiting(NamedTuple):
    """A request that waits; they sort as they are let through."""

    begun: float
    number: int  # in the order of coming
    turn: asyncio.Future[None]
    gives_up: Callable[[], bool]


class GaveUp(Exception):
    """Whoever waited before a gate has gone away."""


class Gates:
    """Gates, one for each server, however many models of it are asked. `are_told`: in the metrics of this process."""

    def __init__(self, *, are_told: bool = False) -> None:
        self._gates: dict[str, Gate] = {}
        self._are_told = are_told

    def of(self, url: str, most: int) -> Gate:
        """The gate of the server at `url`, with the smallest `most` of those who ask."""
        gate = self._gates.get(url)
        if gate is None:
            gate = self._gates[url] = Gate(most)
            if self._are_told:
                _LIMIT.labels(url).set_function(lambda: gate.limit)
                _RUNNING.labels(url).set_function(lambda: gate.running)
                _WAITING.labels(url).set_function(lambda: gate.waiting)
                _CLOSED.labels(url).set_function(lambda: float(gate.is_closed))
                gate.waits = _WAIT_SECONDS.labels(url)
        gate.bound(most)
        return gate


class Gate:
    """Admits requests to one server. `most`: never more than this at once."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.running = 0
        self.waits: Histogram | None = None
        self._limit = Limit(most, clock)
        self._clock = clock
        self._waiting: OrderedDict[str, list[_Waiting]] = OrderedDict()  # a heap for each campaign
        self._numbers = count()
        self._refusals = 0  # in a row, those of one closure counted once
        self._closed_since = 0.0
        self._closed_until = 0.0
        self._looking: asyncio.TimerHandle | None = None
        self._told_at = 0.0

    @property
    def limit(self) -> int:
        return self._limit.value

    @property
    def era(self) -> int:
        """Requests of one era meet the same trouble."""
        return self._limit.era

    @property
    def waiting(self) -> int:
        """Requests that have not been let through yet."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_closed(self) -> bool:
        """The server has refused, and has not answered since."""
        return self._refusals > 0

    @property
    def is_left_alone(self) -> bool:
        """It is closed, and the time that the server asked for is not up: nobody is let through."""
        return self._clock() < self._closed_until

    @property
    def closed_seconds(self) -> float:
        """Since when it is closed, if it is."""
        return self._clock() - self._closed_since

    @property
    def is_crowded(self) -> bool:
        """Whoever comes now waits for longer than one request takes."""
        return self.waiting >= self.limit

    @property
    def has_room(self) -> bool:
        return not self._waiting and self._admits()

    @property
    def seconds_since_told(self) -> float:
        return self._clock() - self._told_at

    def admitted(self, caller: Caller, gives_up: Callable[[], bool] = lambda: False) -> Admission:
        """Use as an async context manager around one request; see `enter`."""
        return Admission(self, caller, gives_up)

    def bound(self, most: int) -> None:
        """The server itself takes no more than that at once."""
        self._limit.bound(most)

    def answered(self) -> None:
        """A request that was let through has been answered."""
        self._refusals = 0
        self._limit.answered(self.running)

    def failed(self, error: ModelUnavailable, era: int) -> None:
        """The server could not answer a request that was let through in that era."""
        if error.status in TOO_MUCH:
            self._close(error.retry_after)
            self._limit.refused(era, self.running)
        elif error.status in GONE:  # other errors, as 500, may be the request's own, and are nobody else's
            self._limit.lost(era, self.running)

    def told(self, running: float, waiting: float, memory: float) -> None:
        """What the server says of itself: requests in work and in its queue, and the share of its memory in use."""
        self._told_at = self._clock()
        self._limit.told(self.running, running, waiting, memory)

    async def enter(self, caller: Caller, gives_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until there is room for a request of this caller.

        `gives_up` is asked now and then whether to go away, which raises `GaveUp`.
        """
        if self.has_room:
            self.running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(caller.begun, next(self._numbers), turn, gives_up)
        heappush(self._waiting.setdefault(caller.campaign, []), waiting)
        started = time.perf_counter()
        self._admit()
        try:
            await turn
            if self.waits is not None:
                observe(self.waits, time.perf_counter() - started)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                if turn.exception() is None:
                    self.leave()  # it was let through and given up in the same moment
            else:
                self._forget(caller.campaign, waiting)
            raise

    def leave(self) -> None:
        """A request is over, however it went."""
        self.running -= 1
        self._admit()

    def _admits(self) -> bool:
        return self.running < (1 if self._refusals else self._limit.value) and self._clock() >= self._closed_until

    def _admit(self) -> None:
        """Let the next ones through, one of each campaign in turns."""
        while self._waiting and self._admits():
            campaign, those = self._waiting.popitem(last=False)
            turn = heappop(those).turn
            if those:
                self._waiting[campaign] = those
            if not turn.done():  # else it is being cancelled
                turn.set_result(None)
                self.running += 1
        if self._waiting and self._looking is None:
            closed = self._closed_until - self._clock()
            pause = min(closed, _LOOK_SECONDS) if closed > 0 else _LOOK_SECONDS
            self._looking = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        """Send away who gives up, and see whether it is time to open."""
        self._looking = None
        for campaign, those in list(self._waiting.items()):
            for waiting in list(those):
                if not waiting.turn.done() and waiting.gives_up():
                    self._forget(campaign, waiting)
                    waiting.turn.set_exception(GaveUp())
        self._admit()

    def _forget(self, campaign: str, waiting: _Waiting) -> None:
        those = self._waiting.get(campaign, [])
        if waiting in those:  # else its turn had just come
            those.remove(waiting)
            heapify(those)
        if not those:
            self._waiting.pop(campaign, None)

    def _close(self, retry_after: float) -> None:
        now = self._clock()
        pause = min(retry_after, LONGEST_CLOSURE_SECONDS)
        if now >= self._closed_until:
            pause = max(pause, min(_FIRST_PAUSE_SECONDS * 2.0**self._refusals, _LONGEST_PAUSE_SECONDS))
            if not self._refusals:
                self._closed_since = now
            self._refusals += 1
        self._closed_until = max(self._closed_until, now + pause)
        if self._looking is not None:  # who leaves now looks when to open
            self._looking.cancel()
            self._looking = None


class Admission:
    """One request's stay behind the gate, which learns from how it ends.

    `is_idle`: the request was answered elsewhere, and tells nothing of this server.
    """

    __slots__ = ("_caller", "_era", "_gate", "_gives_up", "is_idle")

    def __init__(self, gate: Gate, caller: Caller, gives_up: Callable[[], bool]) -> None:
        self._gate = gate
        self._caller = caller
        self._gives_up = gives_up
        self.is_idle = False

    async def __aenter__(self) -> Admission:
        await self._gate.enter(self._caller, self._gives_up)
        self._era = self._gate.era
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            if not self.is_idle:
                self._gate.answered()
        elif isinstance(error, ModelUnavailable) and not isinstance(error, WrongAdapter):
            self._gate.failed(error, self._era)
        self._gate.leave()
