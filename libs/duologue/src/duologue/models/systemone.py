"""Decisions by /v1/systemone: transformers serve from 5.23, vLLM from 0.32, llama.cpp, Ollama, and hosted ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from duologue.core.dialogue import Decision
from duologue.core.prompts import Question
from duologue.core.usage import Usage
from duologue.models.answers import Answers
from duologue.models.connection import Connection, ModelUnavailable

_PATH = "/v1/systemone"


async def decide(connection: Connection, model: str, state: str, questions: Mapping[str, Question]) -> Answers:
    """All answers, by one request. Raises `ModelUnavailable` or `ModelRefused`."""
    reply = await connection.post(_PATH, {"model": model, "state": state, "questions": questions})
    try:
        answers = reply.content["answers"]
        decisions = {name: _decision(name, question, answers[name]) for name, question in questions.items()}
        told = reply.content.get("usage") or {}
        usage = Usage.of(int(told.get("input_tokens") or 0), int(told.get("output_tokens") or 0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelUnavailable(f"{connection.url}: a decision answer of another shape: {error!r}") from error
    connection.count(usage)
    return Answers(decisions, usage)


def _decision(name: str, question: Question, answer: Mapping[str, Any]) -> Decision:
    if question["type"] == "noul":
        yes = _probability(answer["noul"])
        probabilities = {"yes": yes, "no": 1.0 - yes}
    else:
        probabilities = {option: _probability(answer["probabilities"][option]) for option in question["criteria"]}
    return Decision.likeliest(name, probabilities)


def _probability(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or not -1e-6 <= number <= 1 + 1e-6:
        raise ValueError(f"{value!r} is not a probability")
    return min(max(number, 0.0), 1.0)
