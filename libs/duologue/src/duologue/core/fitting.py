"""One temperature for a model's answers to one type of question, and what it is worth on answers it has not seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from duologue.core.judgements import Judgements, QuestionType, log_loss
from duologue.core.temperature import HIGHEST, LOWEST

FOLDS = 5
# With fewer, the temperature says more of the sample than of the model.
MIN_EXAMPLES = 50
MIN_STATES = 10
MIN_OF_EACH = 10
# How sure a model is when it errs shows in its errors only; with none, the best temperature is the lowest there is.
MIN_WRONG = 5
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """What was found for one type of question.

    `temperature` is None where `problem` says why none could be fitted, and what it would take. `after`: each answer at
    a temperature that was fitted without its group; `remark` says what to think of before the temperature is used.
    """

    question: QuestionType
    before: Judgements
    temperature: float | None = None
    after: Judgements | None = None
    problem: str = ""
    remark: str = ""


def fit(judgements: Judgements) -> Fit:
    """The temperature from all judgements; the figures after it from those that each fold left out."""
    problem = _too_little(judgements)
    if problem:
        return Fit(judgements.question, judgements, problem=problem)
    temperature = fit_temperature(judgements)
    after = held_out(judgements)
    return Fit(judgements.question, judgements, temperature, after, remark=_remark(judgements, temperature, after))


def fit_temperature(judgements: Judgements) -> float:
    """The temperature with the least log loss, within `LOWEST` and `HIGHEST`; 1 where none does better than that."""

    def loss(log_temperature: float) -> float:
        return log_loss(judgements.tempered(math.exp(log_temperature)))

    # The loss is convex in 1 / T, so in log T it has one valley.
    found = minimize_scalar(loss, bounds=(math.log(LOWEST), math.log(HIGHEST)), method="bounded")
    temperature = min(max(round(math.exp(found.x), _DIGITS), LOWEST), HIGHEST)
    return temperature if log_loss(judgements.tempered(temperature)) < log_loss(judgements) else 1.0


def held_out(judgements: Judgements) -> Judgements:
    """Each judgement at the temperature of the other folds: what an answer gets that no fit has seen.

    Groups are dealt out by a seeded shuffle, whole: what is about one thing is all in one fold.
    """
    groups = np.unique(judgements.groups)
    fold_of = np.empty(groups.max() + 1, dtype=int)
    fold_of[np.random.default_rng(0).permutation(groups)] = np.arange(len(groups)) % FOLDS
    folds = fold_of[judgements.groups]
    by_fold = np.array(
        [fit_temperature(judgements.at(np.flatnonzero(folds != fold))) for fold in range(FOLDS)], dtype=float
    )
    return judgements.tempered(by_fold[folds])


def _too_little(judgements: Judgements) -> str:
    """What more it would take to fit a temperature; "" where there is enough."""
    count = len(judgements)
    if count < MIN_EXAMPLES:
        return f"{count} questions have an answer, it takes {MIN_EXAMPLES}: label {MIN_EXAMPLES - count} more"
    if judgements.states < MIN_STATES:
        return f"they are about {judgements.states} states, it takes {MIN_STATES}: label questions about others"
    commonest = int(np.bincount(judgements.right).argmax())
    others = int((judgements.right != commonest).sum())
    if others < MIN_OF_EACH:
        more = MIN_OF_EACH - others
        if judgements.question == "noul":
            rare = ("no", "yes")[commonest]
            return f'{others} are answered "{rare}", it takes {MIN_OF_EACH}: label {more} more of these'
        return f"the right option is number {commonest + 1} in all but {others}: label {more} more where it is not"
    wrong = int((~judgements.is_right).sum())
    if wrong < MIN_WRONG:
        return (
            f"the model got {wrong} of {count} wrong, and it takes {MIN_WRONG} to see how sure it is when it errs: "
            "label more, or harder ones"
        )
    return ""


def _remark(judgements: Judgements, temperature: float, after: Judgements) -> str:
    if temperature in (LOWEST, HIGHEST):
        return f"the temperature is the {'lowest' if temperature == LOWEST else 'highest'} that is tried"
    if log_loss(after) >= log_loss(judgements):
        return "on answers that it has not seen the temperature does not help: the model needs none, or more labels"
    return ""
