"""Typed questions about a state, all in one request, answered with a probability for every option (`/v1/systemone`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from duologue.core.dialogue import Decision
from duologue.models.server import ModelServer, ModelUnavailable

# Below this difference between the two likeliest options a choice is asked once more, in the other order: small
# models prefer a letter as much as an answer.
LOW_MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class Answers:
    """Decisions by the names of their questions, and what they cost."""

    decisions: dict[str, Decision]
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class DecisionModel:
    """Decisions by a model of one server."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    @property
    def default_model(self) -> str:
        return self._server.endpoint.model

    async def ask(
        self,
        state: str,
        questions: dict[str, dict[str, Any]],
        *,
        model: str = "",
        relevant: Callable[[Mapping[str, Decision]], Container[str]] | None = None,
    ) -> Answers:
        """Answer all questions about `state` with one request; choices of a low margin are asked once more.

        `relevant` names, by the first answers, the questions whose answers will count: only those are asked again.
        A question is {"type": "choice", "instructions": ..., "criteria": {option: description}} or {"type": "noul",
        "instructions": ...}, which is yes or no. Raises `ModelUnavailable` or `ModelRefused`.
        """
        started = time.perf_counter()
        decisions, read, written = await self._ask_once(state, questions, model)
        unsure = {
            name: _reversed(question)
            for name, question in questions.items()
            if question["type"] == "choice" and _margin(decisions[name]) < LOW_MARGIN
        }
        if unsure and relevant is not None:
            counting = relevant(decisions)
            unsure = {name: question for name, question in unsure.items() if name in counting}
        if unsure:
            again, more_read, more_written = await self._ask_once(state, unsure, model)
            read, written = read + more_read, written + more_written
            decisions |= {name: _mean(decisions[name], other) for name, other in again.items()}
        return Answers(decisions, read, written, time.perf_counter() - started)

    async def _ask_once(
        self, state: str, questions: dict[str, dict[str, Any]], model: str
    ) -> tuple[dict[str, Decision], int, int]:
        """The answers, and the tokens that were read and written for them."""
        body = {"model": model or self.default_model, "state": state, "questions": questions}
        answer = await self._server.post("/v1/systemone", body)
        try:
            answers = answer["answers"]
            decisions = {name: _decision(name, questions[name], answers[name]) for name in questions}
            usage = answer.get("usage") or {}
            return decisions, int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelUnavailable(f"a decision answer of another shape: {error!r}") from error


def _decision(name: str, question: dict[str, Any], answer: dict[str, Any]) -> Decision:
    if question["type"] == "noul":
        yes = _probability(answer["noul"])
        probabilities = {"yes": yes, "no": 1.0 - yes}
    else:
        probabilities = {option: _probability(answer["probabilities"][option]) for option in question["criteria"]}
    return Decision(name, max(probabilities, key=probabilities.__getitem__), probabilities)


def _probability(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or not -1e-6 <= number <= 1 + 1e-6:
        raise ValueError(f"{value!r} is not a probability")
    return min(max(number, 0.0), 1.0)


def _margin(decision: Decision) -> float:
    best, second = sorted(decision.probabilities.values(), reverse=True)[:2]
    return best - second


def _reversed(question: dict[str, Any]) -> dict[str, Any]:
    return {**question, "criteria": dict(reversed(question["criteria"].items()))}


def _mean(decision: Decision, other: Decision) -> Decision:
    probabilities = {option: (p + other.probabilities[option]) / 2 for option, p in decision.probabilities.items()}
    return Decision(decision.question, max(probabilities, key=probabilities.__getitem__), probabilities)
