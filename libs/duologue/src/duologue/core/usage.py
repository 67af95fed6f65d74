"""What models were used for a dialogue: tokens and time, by the part that a model had and by its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Part(StrEnum):
    """What a model was asked as."""

    CLIENT = "client"
    AGENT = "agent"
    MANAGER = "manager"
    JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, and the seconds that answers took; what was used for several requests is their sum.

    `told_tokens` are those prompt tokens of which the server told how many it had in its prefix cache, and
    `cached_tokens` are these: a server that tells nothing is another thing than one that had nothing.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    told_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(
        cls, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None = None, seconds: float = 0.0
    ) -> Usage:
        """For one request; `cached_tokens` is None where the server did not tell."""
        if cached_tokens is None:
            return cls(prompt_tokens, completion_tokens, 0, 0, seconds)
        # More than the whole prompt no cache can have, and no less than nothing, whatever a server says.
        cached = max(min(cached_tokens, prompt_tokens), 0)
        return cls(prompt_tokens, completion_tokens, prompt_tokens, cached, seconds)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.told_tokens + other.told_tokens,
            self.cached_tokens + other.cached_tokens,
            self.seconds + other.seconds,
        )

    @property
    def cached_share(self) -> float | None:
        """Share of the prompt tokens that the server did not have to read, in [0, 1]; None where it does not tell."""
        return self.cached_tokens / self.told_tokens if self.told_tokens else None


class Account(NamedTuple):
    """What a usage is put down to. `wasted`: nothing usable came of it, or the guess that it was for was wrong."""

    part: str
    model: str
    wasted: bool = False


class Ledger:
    """What is used while a dialogue is played."""

    def __init__(self) -> None:
        self.accounts: dict[Account, Usage] = {}

    def book(self, part: Part, model: str, usage: Usage, *, wasted: bool = False) -> None:
        """Add to an account; nothing at all opens none."""
        if usage != NOTHING:
            account = Account(part, model, wasted)
            self.accounts[account] = self.accounts.get(account, NOTHING) + usage


NOTHING = Usage()


def total(usages: Iterable[Usage]) -> Usage:
    return sum(usages, NOTHING)


def by_part(accounts: Iterable[tuple[Account, Usage]]) -> dict[str, Usage]:
    """All that each part used, wasted or not, in order of appearance."""
    parts: dict[str, Usage] = {}
    for account, usage in accounts:
        parts[account.part] = parts.get(account.part, NOTHING) + usage
    return parts
