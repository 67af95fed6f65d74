"""How many requests a server is given at once: as many as bring more, found by trying.

With every server there is a number of requests beyond which another one makes all of them slower without more coming
out (Little: throughput = requests at once / latency, so this is the gradient of the latency too). The limit doubles as
long as throughput grows with it; then it tries an eighth more or less now and then, and keeps what is better. Tries
that fail become rarer. Nothing here waits or knows HTTP: the gate says what happens.
"""

from __future__ import annotations

from collections.abc import Callable

# Few enough for a small server; a large one is found out by doubling, within seconds.
START = 8
# A window of measurement: so many answers for each slot, whole rounds where all are begun and answered together, and
# more rounds while there are few slots, or latencies are noise.
_FEWEST_ROUNDS, _MOST_ROUNDS = 2, 8
_ENOUGH_ANSWERS = 32
# And so many seconds: with answers in milliseconds a shorter window measures the hiccups of this process.
_SHORTEST_WINDOW = 0.2
# With room to spare throughput says nothing of the limit: this share of the answers must have met it.
_FULL_SHARE = 0.8
_DOUBLE = 2.0
# Small enough that a wrong try costs little, large enough to stand out from what a window's throughput varies by.
_EIGHTH = 9 / 8
# Steps that are kept grow, up to this.
_QUARTER = 5 / 4
# A step up is kept when throughput grows by at least this share of it, a step down when it loses less than that. It is
# small because self-talk wants dialogues, not short answers: a quarter would leave a server whose batch saturates
# slowly at three quarters of its best.
_WORTH = 0.05
# In windows: a server is tried again after 64 of them at the latest, for what is asked of it changes.
_LONGEST_PATIENCE = 64
_AFTER_REFUSAL = 0.8
# One request that breaks off while others are answered tells nothing of the load.
_LOSSES = 2
# A queue of this share of the running is what the next step of a batch takes in.
_SHORT_QUEUE = 1 / 8
_FULL_MEMORY = 0.95


class Limit:
    """The limit of one server, never more than `most`. `running` is always the number under way, the subject's too."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.value = min(START, most)
        self.era = 0  # how often trouble has moved the limit; what was let in before meets the same trouble
        self._most = most
        self._clock = clock
        self._kept = self.value  # the best so far, and answers a second with it
        self._best = 0.0
        self._step = _DOUBLE
        self._upward = True
        self._trying = False
        self._patience = 1
        self._held = 0
        self._losses = 0
        self._is_proven = True  # somebody was answered since trouble last moved it
        self._queue = 0.0
        self._begin_window(0)

    def bound(self, most: int) -> None:
        """The server itself takes no more than that."""
        self._most = min(self._most, most)
        self.value = min(self.value, most)
        self._kept = min(self._kept, most)

    def answered(self, running: int) -> None:
        """A request has been answered."""
        self._losses = 0
        self._is_proven = True
        if self._settling > 0:
            self._settling -= 1
            if not self._settling:
                self._since = self._clock()
            return
        self._answers += 1
        self._full += running >= self.value
        rounds = min(max(-(-_ENOUGH_ANSWERS // self.value), _FEWEST_ROUNDS), _MOST_ROUNDS)
        seconds = self._clock() - self._since
        if self._answers >= rounds * self.value and seconds >= _SHORTEST_WINDOW:
            before = self.value
            if self._full >= _FULL_SHARE * self._answers:
                self._judge(self._answers / seconds)
            self._begin_window(running if self.value != before else 0)

    def refused(self, era: int, running: int) -> None:
        """The server had too much to do for a request that was let in in that era."""
        if era != self.era or not self._is_proven:
            return
        if self._trying and self.value > self._kept:
            self._go_back()
        else:
            # With few under way it is not ours that are too many: a server that starts, or somebody else's requests.
            self._restart(max(int(min(self.value, running) * _AFTER_REFUSAL), self.value // 2), _EIGHTH)
        self._trouble(running)

    def lost(self, era: int, running: int) -> None:
        """A request that was let in in that era was not answered. A server that was away comes back to less."""
        self._losses += 1
        if era == self.era and self._is_proven and self._losses >= _LOSSES:
            self._restart(self.value // 2, _DOUBLE)
            self._trouble(running)

    def told(self, running: int, its_running: float, its_waiting: float, memory: float) -> None:
        """What the server says of itself: requests in work and in its queue, and the share of its memory in use.

        Others may ask it too. A queue that is short, or gone at the next look, is no trouble.
        """
        ours = its_waiting * running / max(its_running + its_waiting, 1.0)
        queue, self._queue = min(ours, self._queue), ours
        if queue > max(running * _SHORT_QUEUE, 1.0):
            self._restart(min(self.value, running) - int(queue), _EIGHTH)
        elif memory > _FULL_MEMORY and self._is_proven:
            self._restart(int(min(self.value, running) * _AFTER_REFUSAL), _EIGHTH)
        else:
            return
        self._queue = 0.0
        self._trouble(running)

    def _trouble(self, running: int) -> None:
        self.era += 1
        self._losses = 0
        self._is_proven = False
        self._begin_window(running)

    def _restart(self, value: int, step: float) -> None:
        """Go down to that, and begin anew to look for the best."""
        self.value = self._kept = max(value, 1)
        self._best = 0.0
        self._step, self._upward, self._trying = step, True, False
        self._patience, self._held = 1, 0

    def _judge(self, throughput: float) -> None:
        """What follows from answers a second with the present limit."""
        if not self._trying:
            self._kept, self._best = self.value, throughput  # the newest: what is asked for changes as dialogues go on
            self._held += 1
            if self._held >= self._patience:
                self._try()
        elif throughput >= self._best * (1 + _WORTH * (self.value / self._kept - 1)):
            self._kept, self._best = self.value, throughput
            self._patience = max(self._patience // 2, 1)
            self._step = max(self._step, min(self._step**2, _QUARTER))
            self._try()
        else:
            self._go_back()

    def _try(self) -> None:
        if self.value >= self._most:
            self._upward, self._step = False, _EIGHTH
        elif self.value == 1:
            self._upward = True
        step = max(int(self.value * (self._step - 1)), 1)
        self.value = min(self.value + step, self._most) if self._upward else max(self.value - step, 1)
        self._trying, self._held = True, 0

    def _go_back(self) -> None:
        """The try failed. The next one comes later and goes the other way."""
        self.value = self._kept
        self._patience = min(self._patience * 2, _LONGEST_PATIENCE)
        self._step, self._upward = _EIGHTH, not self._upward
        self._trying, self._held = False, 0

    def _begin_window(self, under_way: int) -> None:
        """`under_way`: so many were begun under another limit, and tell nothing of this one."""
        self._settling = under_way
        self._answers = 0
        self._full = 0
        self._since = self._clock()
