"""Typed questions about a state, all in one request, answered with a probability for every option."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from dataclasses import replace

from duologue.core.dialogue import Decision
from duologue.core.prompts import Question
from duologue.models import labels, systemone
from duologue.models.answers import Answers
from duologue.models.calibration import Calibration
from duologue.models.completion import NOBODY, Caller
from duologue.models.connection import ModelRefused
from duologue.models.replica import Replica
from duologue.models.server import ModelServer
from duologue.models.spans import deciding, show_usage

# Below this difference between the two likeliest options a choice is asked once more, in the other order: small
# models prefer a letter as much as an answer.
LOW_MARGIN = 0.1
# What a server says of a path that it does not have.
_NO_SUCH_PATH = (404, 405, 501)


class DecisionModel:
    """A model that decides. How it is asked is its endpoint's `decisions`, and what each server has."""

    def __init__(self, server: ModelServer) -> None:
        """Raises `WrongSetting` for a calibration that can't be read."""
        self.server = server
        path = server.endpoint.calibration
        self._calibration = Calibration.read(path) if path else None

    @property
    def default_model(self) -> str:
        return self.server.endpoint.model

    def calibration_of(self, model: str) -> str:
        """At which temperatures a model's answers are given, as provenance says it; "" for their own."""
        known = self._calibration.of_model(model) if self._calibration is not None else {}
        return ", ".join(f"{question} {temperature:g}" for question, temperature in sorted(known.items()))

    async def ask(
        self,
        state: str,
        questions: Mapping[str, Question],
        *,
        model: str = "",
        relevant: Callable[[Mapping[str, Decision]], Container[str]] | None = None,
        caller: Caller = NOBODY,
    ) -> Answers:
        """Answer all questions about `state` with one request; choices of a low margin are asked once more.

        `relevant` names, by the first answers, the questions whose answers will count: only those are asked again.
        Probabilities are calibrated where the endpoint has a calibration. Raises `ModelUnavailable` or `ModelRefused`.
        """
        model = model or self.default_model
        first = await self._ask_once(state, questions, model, caller)
        decisions, usage = first.decisions, first.usage
        unsure = {
            name: _reversed(question)
            for name, question in questions.items()
            if question["type"] == "choice" and _margin(decisions[name]) < LOW_MARGIN
        }
        if unsure and relevant is not None:
            counting = relevant(decisions)
            unsure = {name: question for name, question in unsure.items() if name in counting}
        if unsure:
            again = await self._ask_once(state, unsure, model, caller)
            usage += again.usage
            decisions = decisions | {name: _mean(decisions[name], other) for name, other in again.decisions.items()}
        if self._calibration is not None:
            decisions = self._calibration.applied(model, questions, decisions)
        return Answers(decisions, usage)

    async def _ask_once(self, state: str, questions: Mapping[str, Question], model: str, caller: Caller) -> Answers:
        way = self.server.endpoint.decisions

        async def decide(replica: Replica) -> Answers:
            await replica.capabilities()  # what the gate goes by
            if way == "systemone" or (way == "auto" and replica.has_systemone is not False):
                try:
                    answers = await systemone.decide(replica.connection, model, state, questions)
                except ModelRefused as error:
                    if way == "systemone" or error.status not in _NO_SUCH_PATH:
                        raise
                else:
                    replica.has_systemone = True
                    return answers
            answers = await labels.decide(replica, model, state, questions, as_text=way == "text")
            if way == "auto":  # only now: of a model that is not there the path would be "not found" too
                replica.has_systemone = False
            return answers

        async def ask(replica: Replica) -> Answers:
            with deciding(replica.url, model, len(questions), caller) as span:
                started = time.perf_counter()
                answers = await decide(replica)
                usage = replace(answers.usage, seconds=time.perf_counter() - started)
                show_usage(span, usage)
            return Answers(answers.decisions, usage)

        return await self.server.ask(caller, ask)


def _margin(decision: Decision) -> float:
    best, second = sorted(decision.probabilities.values(), reverse=True)[:2]
    return best - second


def _reversed(question: Question) -> Question:
    return {**question, "criteria": dict(reversed(question["criteria"].items()))}


def _mean(decision: Decision, other: Decision) -> Decision:
    probabilities = {option: (p + other.probabilities[option]) / 2 for option, p in decision.probabilities.items()}
    return Decision.likeliest(decision.question, probabilities)
