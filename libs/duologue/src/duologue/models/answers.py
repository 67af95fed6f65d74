"""What a model decided, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from duologue.core.dialogue import Decision
from duologue.core.usage import Usage


@dataclass(frozen=True, slots=True)
class Answers:
    """Decisions by the names of their questions, and what they cost. Seconds are those of the answers."""

    decisions: dict[str, Decision]
    usage: Usage
