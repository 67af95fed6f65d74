"""What a chat model is asked for, and what it answers, whatever the server."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from duologue.core.prompts import Message
from duologue.core.usage import Usage


class Caller(NamedTuple):
    """For whom a request is: campaigns share a server fairly, and a dialogue stays with its server.

    `deadline`: by the event loop's clock, when nobody waits for the answer any more; None where somebody always does.
    `begun`: by any clock that all of a campaign's callers share; where there is no room, who began first goes first.
    """

    campaign: str = ""
    dialogue: str = ""
    deadline: float | None = None
    begun: float = 0.0


NOBODY = Caller()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. A temperature of 0 is greedy; a `top_k` of 0 keeps every token."""

    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 100
    top_k: int = 0


GREEDY = Sampling(temperature=0.0, top_p=1.0)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The next message of the assistant.

    `pattern`: a regular expression that the whole answer must match, "" for any text. `top_logprobs`: how many of the
    likeliest tokens to tell at each place, 0 for none.
    """

    messages: Sequence[Message]
    sampling: Sampling
    model: str
    stop: Sequence[str] = ()
    seed: int | None = None
    pattern: str = ""
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """One token of an answer, and the natural logarithms of the probabilities of those that might have stood there."""

    text: str
    logprobs: Mapping[str, float]

    @classmethod
    def of(cls, text: str, told: Iterable[tuple[str, float | None]]) -> TokenChoice:
        """Of what a server tells, the last for each text; without what is no number, which comes as null or NaN."""
        known = {each: min(float(chance), 0.0) for each, chance in told if chance is not None}
        return cls(text, {each: chance for each, chance in known.items() if not math.isnan(chance)})


@dataclass(slots=True)
class Completion:
    """What a model wrote. Tokens are the server's count, 0 where it gives none; `seconds` are those of
    this answer, without what it waited for or was tried before.

    `cached_tokens`: those of the prompt that the server did not have to read again; None where it does not tell.
    """

    text: str
    is_cut: bool
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    tokens: tuple[TokenChoice, ...] = ()
    seconds: float = 0.0

    @property
    def usage(self) -> Usage:
        return Usage.of(self.prompt_tokens, self.completion_tokens, self.cached_tokens, self.seconds)


def written(text: str, stops: Sequence[str]) -> str:
    """The text as it goes on from here: without what it stopped at, which TGI and `transformers serve` leave in it,
    and without half a surrogate pair, which a model may write."""
    text = next((text.removesuffix(stop) for stop in stops if stop and text.endswith(stop)), text)
    return text.encode("utf-8", "replace").decode()


# How a server is asked. Raises `ModelUnavailable` or `ModelRefused`.
Ask = Callable[[ChatRequest], Awaitable[Completion]]
