"""What is wrong with somebody's input, said so that they can mend it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in one file: where it is, what it is, and how to mend it.

    `line` counts from 1; 0 means the file as a whole.
    """

    file: str
    line: int
    message: str
    fix: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}" + (f"\n    {self.fix}" if self.fix else "")


class InvalidInput(Exception):
    """Input that nobody can work with. Nothing was created from it; `problems` is never empty."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


class WrongSetting(ValueError):
    """A setting that a service can't start with. The message names it, and the fix."""


def did_you_mean(word: str, candidates: Sequence[str]) -> str:
    """A sentence naming the closest candidate, or the candidates when none is close."""
    close = get_close_matches(word, candidates, n=1)
    if close:
        return f'Did you mean "{close[0]}"?'
    return "Use one of: " + ", ".join(sorted(candidates)) + "." if candidates else ""
