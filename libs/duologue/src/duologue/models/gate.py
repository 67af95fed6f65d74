"""How many requests a server is given at once, and who goes first.

Three signals move the limit, and none needs to be configured:

- **What more brings.** With every server there is a number of requests beyond which another one makes all of them
  slower without more coming out (Little: throughput = requests at once / latency). The limit doubles as long as
  throughput grows with it; then it tries an eighth more or less now and then, and keeps what is better. Tries that
  fail become rarer.
- **What the server refuses**: after 429 or 503 there is a fifth less, and nothing at all for as long as it asks.
- **What the server says** of its queue and its memory at /metrics: what waits there is taken off.

Who waits here is served in turns by campaign, so that a large one does not shut out a small one.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from types import TracebackType

from duologue.models.connection import ModelUnavailable
from duologue.models.fingerprint import WrongAdapter

START = 32
# A window of measurement: so many answers for each slot, and at least so many in all, or latencies are noise.
_WINDOW_TURNS = 2
_LEAST_ANSWERS = 16
# Doubling goes on while twice the requests bring at least this much more.
_WORTH_DOUBLING = 1.3
# A try of an eighth more is kept when throughput grows by this share, one of less when it loses less than that.
_WORTH_A_TRY = 0.03
_LONGEST_PATIENCE = 64
_TOO_MUCH = (429, 503)
_AFTER_REFUSAL = 0.8
_AFTER_LOSS = 0.5
_LONGEST_CLOSURE_SECONDS = 30.0
_FULL_MEMORY = 0.95


class _Phase(Enum):
    DOUBLING = "doubling"
    HOLDING = "holding"
    TRYING = "trying"


class Gates:
    """The gates of a process, one for each server, however many models of it are asked."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def of(self, url: str, most: int) -> Gate:
        """The gate of the server at `url`, made with the `most` of whoever asks first."""
        return self._gates.setdefault(url, Gate(most))


class Gate:
    """Admits requests to one server. `most`: never more than this at once."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = min(START, most)
        self.running = 0
        self._most = most
        self._clock = clock
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._closed_until = 0.0
        self._opening: asyncio.TimerHandle | None = None
        self._phase = _Phase.DOUBLING
        self._kept = (0, 0.0)  # the limit that was best so far, and the throughput with it
        self._upward = True
        self._patience = 1
        self._windows = 0
        self._era = 0
        self._begin_window()

    @property
    def era(self) -> int:
        """How often trouble has lowered the limit."""
        return self._era

    @property
    def waiting(self) -> int:
        """Requests that have not been let through yet."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def has_room(self) -> bool:
        return self.running < self.limit and not self._waiting and self._clock() >= self._closed_until

    def admitted(self, campaign: str) -> _Admission:
        """Use as an async context manager around one request."""
        return _Admission(self, campaign)

    def answered(self) -> None:
        """A request that was let through has been answered; throughput is measured by these."""
        self._answers += 1
        self._full_answers += self.running >= self.limit
        if self._answers >= max(_WINDOW_TURNS * self.limit, _LEAST_ANSWERS):
            if self._full_answers * 10 >= self._answers * 8:  # with room to spare, throughput says nothing of the limit
                self._move(self._answers / max(self._clock() - self._since, 1e-6))
            self._begin_window()

    def failed(self, error: ModelUnavailable, era: int) -> None:
        """The server could not answer a request that was let through in that era.

        It has too much to do, or it is gone, or broke off, or was too slow, and comes back to less. Those that were
        under way together meet the same trouble, so only the first of them counts.
        """
        if error.status in _TOO_MUCH:
            self._close(error.retry_after)
        if era == self._era:
            factor = _AFTER_REFUSAL if error.status in _TOO_MUCH else _AFTER_LOSS
            self._hold(max(1, int(min(self.limit, self.running) * factor)))

    def told(self, running: float, waiting: float, memory: float) -> None:
        """What the server says of itself: requests in work and in its queue, and the share of its memory in use."""
        excess = waiting * self.running / max(running + waiting, 1.0)  # of its queue, what is ours
        if excess >= 1 or memory > _FULL_MEMORY:
            self._hold(max(1, self.running - int(excess), int(self.limit * _AFTER_REFUSAL)))

    async def enter(self, campaign: str) -> None:
        """Wait until there is room for a request of this campaign."""
        if self.has_room:
            self.running += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(campaign, deque()).append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it was let through and given up in the same moment
            else:
                self._forget(campaign, turn)
            raise

    def leave(self) -> None:
        """A request is over, however it went."""
        self.running -= 1
        self._admit()

    def _admit(self) -> None:
        """Let the next ones through, one of each campaign in turns."""
        if self._clock() < self._closed_until:
            self._open_later()
            return
        while self._waiting and self.running < self.limit:
            campaign, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[campaign] = queue
            if not turn.done():
                turn.set_result(None)
                self.running += 1

    def _forget(self, campaign: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(campaign)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[campaign]

    def _close(self, seconds: float) -> None:
        until = self._clock() + min(seconds, _LONGEST_CLOSURE_SECONDS)
        self._closed_until = max(self._closed_until, until)

    def _open_later(self) -> None:
        if self._opening is None:
            delay = max(self._closed_until - self._clock(), 0.0)
            self._opening = asyncio.get_running_loop().call_later(delay, self._open)

    def _open(self) -> None:
        self._opening = None
        self._admit()

    def _begin_window(self) -> None:
        self._since = self._clock()
        self._answers = 0
        self._full_answers = 0

    def _hold(self, limit: int) -> None:
        """Go down to that limit, and begin anew to look for the best one."""
        self.limit = limit
        self._era += 1
        self._kept = (limit, 0.0)
        self._phase = _Phase.HOLDING
        self._patience, self._windows, self._upward = 1, 0, True
        self._begin_window()

    def _move(self, throughput: float) -> None:
        """The next limit, from answers a second with the present one."""
        limit, best = self._kept
        if self._phase is _Phase.DOUBLING:
            if throughput < best * _WORTH_DOUBLING:
                self._settle(limit, best)
            else:
                self._kept = (self.limit, throughput)
                self.limit = min(self.limit * 2, self._most)
        elif self._phase is _Phase.TRYING:
            gain = throughput / best - 1 if best else 1.0
            if gain >= (_WORTH_A_TRY if self._upward else -_WORTH_A_TRY):
                self._patience = 1
                self._settle(self.limit, throughput)
            else:
                self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
                self._upward = not self._upward
                self._settle(limit, best)
        else:
            self._windows += 1
            self._kept = (self.limit, throughput)  # the newest: what is asked for changes as dialogues go on
            if self._windows >= self._patience:
                self._try()

    def _settle(self, limit: int, throughput: float) -> None:
        self.limit = limit
        self._kept = (limit, throughput)
        self._phase, self._windows = _Phase.HOLDING, 0

    def _try(self) -> None:
        step = max(1, self.limit // 8)
        self.limit = min(self.limit + step, self._most) if self._upward else max(self.limit - step, 1)
        self._phase = _Phase.TRYING


class _Admission:
    """One request's stay behind the gate, which learns from how it ends."""

    __slots__ = ("_campaign", "_era", "_gate")

    def __init__(self, gate: Gate, campaign: str) -> None:
        self._gate = gate
        self._campaign = campaign

    async def __aenter__(self) -> None:
        await self._gate.enter(self._campaign)
        self._era = self._gate.era

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._gate.answered()
        elif isinstance(error, ModelUnavailable) and not isinstance(error, WrongAdapter):
            self._gate.failed(error, self._era)
        self._gate.leave()
