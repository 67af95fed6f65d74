"""What a model decided, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from duologue.core.dialogue import Decision


@dataclass(frozen=True, slots=True)
class Answers:
    """Decisions by the names of their questions, and what they cost. `seconds` include retries."""

    decisions: dict[str, Decision]
    prompt_tokens: int
    completion_tokens: int
    seconds: float = 0.0
