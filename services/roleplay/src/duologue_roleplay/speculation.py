"""Asking the agent for its next turn while the manager still decides what the client's reply means.

A turn pair is then two requests long instead of three; the price is the tokens of every guess that was wrong. What is
asked for stays the same: an utterance that was asked for ahead is used only in answer to the very request that would be
made now, same messages and same seed, and the guess is made on a fork of the graph position. What is said is the same
as far as the server keeps to seeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from types import TracebackType

from prometheus_client import Counter
from rapidfuzz.distance import LCSseq

from duologue.core.dialogue import Turn
from duologue.core.text import f_measure, tokenize
from duologue.core.usage import NOTHING, Usage
from duologue.core.workflow import SayNode, fill
from duologue.models import ChatModel, ModelRefused, ModelUnavailable
from duologue_roleplay.utterance import Ask, Spoken, bearing, speak

_GUESSES = Counter(
    "duologue_speculations_total", "Utterances asked for ahead, by whether the decision agreed.", ("outcome",)
)
_USED = _GUESSES.labels("used")
_WASTED = _GUESSES.labels("wasted")


class Speculation:
    """The utterances of one dialogue that are asked for before they are known to be wanted, one at a time.

    Use as an async context manager: what is still under way when the dialogue breaks off is cancelled.
    """

    def __init__(self) -> None:
        self._ahead: tuple[Ask, asyncio.Task[Spoken]] | None = None
        self._wasted: list[tuple[int, asyncio.Task[Spoken]]] = []

    async def __aenter__(self) -> Speculation:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waste(0)
        for _, task in self._wasted:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._wasted), return_exceptions=True)

    def begin(self, chat: ChatModel, ask: Ask) -> None:
        """Ask now for what may be wanted next."""
        self._ahead = ask, asyncio.create_task(speak(chat, ask))

    async def claim(self, ask: Ask, place: int) -> Spoken | None:
        """The answer to `ask` if it was asked for ahead; if something else was, the turn at `place` bears its cost."""
        if self._ahead is None:
            return None
        asked, task = self._ahead
        if asked != ask:
            self._waste(place)
            return None
        self._ahead = None
        _USED.inc()
        return await task

    async def settle(self, turns: list[Turn]) -> Usage:
        """Add what was wasted to the turns that were said instead, or to the last one where nothing was; all of it.

        Waits for answers under way: a server tells the tokens of an answer only at its end.
        """
        self._waste(len(turns) - 1)
        wasted = NOTHING
        for place, task in self._wasted:
            with suppress(ModelUnavailable, ModelRefused):  # it was not wanted, so its failure is nobody's
                bearer = min(place, len(turns) - 1)
                usage = (await task).whole_usage
                turns[bearer] = bearing(turns[bearer], usage)
                wasted += usage
        self._wasted.clear()
        return wasted

    def _waste(self, place: int) -> None:
        if self._ahead is not None:
            self._wasted.append((place, self._ahead[1]))
            self._ahead = None
            _WASTED.inc()


def likely_edge(reply: str, node: SayNode, facts: Mapping[str, str]) -> str:
    """The edge with the example wording that is closest to `reply` by ROUGE-L, the default where none is close.

    A guess in microseconds, not a judgement: the manager decides.
    """
    words = tokenize(reply)
    guess = next((edge_id for edge_id, edge in node.replies.items() if edge.default), next(iter(node.replies)))
    closest = 0.0
    if len(node.replies) > 1:
        for edge_id, edge in node.replies.items():
            likeness = max((_rouge_l(words, fill(example, facts)) for example in edge.examples), default=0.0)
            if likeness > closest:
                guess, closest = edge_id, likeness
    return guess


def _rouge_l(words: list[str], example: str) -> float:
    others = _words_of(example)
    return f_measure(LCSseq.similarity(words, others), len(words), len(others))


_words_of = lru_cache(maxsize=8192)(tokenize)  # of example wordings, of which there are few
