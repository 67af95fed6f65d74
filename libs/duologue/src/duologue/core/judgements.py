"""How well a model's answers to typed questions agree with people's, and how far its probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from duologue.core.temperature import LEAST

QuestionType = Literal["choice", "noul"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Equal widths over confidences from 0 to 1 (Naeini et al. 2015); of a yes or no the lower half stays empty.
BINS = 10
CONFIDENCE = 0.95
_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Judgement:
    """One question that a model and a person answered.

    `probabilities`: of the options, in the order of the question ("yes" first). `right`: the place of the person's
    answer. `group`: what it is about; judgements of one group are alike and stand or fall together.
    """

    group: str
    probabilities: tuple[float, ...]
    right: int


@dataclass(frozen=True, slots=True)
class Judgements:
    """Judgements of questions of one type, as columns.

    `probabilities` has a row for each and, beyond a question's own `options`, zeros.
    """

    question: QuestionType
    groups: Integers
    probabilities: Floats
    options: Integers
    right: Integers

    @classmethod
    def of(cls, question: QuestionType, judgements: Sequence[Judgement]) -> Judgements:
        widest = max((len(each.probabilities) for each in judgements), default=2)
        table = np.zeros((len(judgements), widest))
        for row, each in zip(table, judgements, strict=True):
            row[: len(each.probabilities)] = each.probabilities
        return cls(
            question,
            np.unique([each.group for each in judgements], return_inverse=True)[1],
            table,
            np.array([len(each.probabilities) for each in judgements], dtype=int),
            np.array([each.right for each in judgements], dtype=int),
        )

    def __len__(self) -> int:
        return len(self.right)

    @property
    def states(self) -> int:
        """How many groups they are of."""
        return len(np.unique(self.groups))

    def at(self, rows: Integers) -> Judgements:
        """Some of them; a row may stand there more than once."""
        return Judgements(
            self.question, self.groups[rows], self.probabilities[rows], self.options[rows], self.right[rows]
        )

    def tempered(self, temperature: float | Floats) -> Judgements:
        """With the probabilities at a temperature, or each at its own, as `temperature.tempered` has them."""
        own = np.arange(self.probabilities.shape[1]) < self.options[:, None]
        powers = np.maximum(self.probabilities, LEAST) ** (1 / np.reshape(temperature, (-1, 1))) * own
        scaled = powers / powers.sum(axis=1, keepdims=True)
        unchanged = np.reshape(temperature, (-1, 1)) == 1.0
        return Judgements(
            self.question, self.groups, np.where(unchanged, self.probabilities, scaled), self.options, self.right
        )

    @property
    def taken(self) -> Integers:
        """The place of the likeliest option; of several, the first."""
        places: Integers = self.probabilities.argmax(axis=1)
        return places

    @property
    def confidence(self) -> Floats:
        """The probability of the option that was taken."""
        highest: Floats = self.probabilities.max(axis=1)
        return highest

    @property
    def is_right(self) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.taken == self.right
        return same


def accuracy(judgements: Judgements) -> float:
    """Share of answers that were right, in [0, 1]."""
    return float(judgements.is_right.mean())


def balanced_accuracy(judgements: Judgements) -> float:
    """Mean, over the places where right options stand, of the share that was found there, in [0, 1].

    Options of different questions have nothing in common but their place, and a small model may prefer one: always
    the first gives 1 / places here, whatever the accuracy.
    """
    places = np.unique(judgements.right)
    return float(np.mean([judgements.is_right[judgements.right == place].mean() for place in places]))


def auroc(judgements: Judgements) -> float | None:
    """The chance that what is right has a higher probability than what is not, in [0, 1]; equals count a half.

    For yes/no: P("yes") of questions whose answer is yes against that of the others. For choices: each option of each
    question is one case, right or not (one against the rest, all questions pooled). None where there is one kind only.
    """
    if judgements.question == "noul":
        scores, positive = judgements.probabilities[:, 0], judgements.right == 0
    else:
        places = np.arange(judgements.probabilities.shape[1])
        own = places < judgements.options[:, None]
        scores, positive = judgements.probabilities[own], (places == judgements.right[:, None])[own]
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    above = rankdata(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def mcc(judgements: Judgements) -> float | None:
    """Matthews' correlation of the places taken and right, in [-1, 1], for any number of them (Gorodkin 2004).

    None where all answers, or all right ones, stand at one place.
    """
    places = judgements.probabilities.shape[1]
    total = len(judgements)
    taken = np.bincount(judgements.taken, minlength=places).astype(float)
    right = np.bincount(judgements.right, minlength=places).astype(float)
    spread = (total**2 - taken @ taken) * (total**2 - right @ right)
    if spread <= 0:
        return None
    return float((judgements.is_right.sum() * total - taken @ right) / np.sqrt(spread))


def ece(judgements: Judgements) -> float:
    """Expected calibration error, in [0, 1]: how far confidence and share right lie apart, on average over answers."""
    return sum(abs(each.gap) * each.count for each in reliability(judgements)) / len(judgements)


def log_loss(judgements: Judgements) -> float:
    """Mean negative log-likelihood of the right answers, in nats; what a temperature is fitted to."""
    chances = judgements.probabilities[np.arange(len(judgements)), judgements.right]
    return float(-np.log(np.maximum(chances, LEAST)).mean())


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about one confidence, from `low` to `high`: how sure they were on average, and how often right."""

    low: float
    high: float
    count: int
    confidence: float
    right: float

    @property
    def gap(self) -> float:
        """Above zero the model was surer than it should have been."""
        return self.confidence - self.right


def reliability(judgements: Judgements) -> list[Bin]:
    """The bins that hold answers, from the least confident. A confidence on an edge belongs to the bin below."""
    confidence, is_right = judgements.confidence, judgements.is_right
    # The tiny step keeps 0.7 out of the bin above, where 7.000000000000001 would put it.
    places = np.clip(np.ceil(confidence * BINS - 1e-9).astype(int) - 1, 0, BINS - 1)
    bins = []
    for place in np.unique(places):
        within = places == place
        bins.append(
            Bin(
                low=place / BINS,
                high=(place + 1) / BINS,
                count=int(within.sum()),
                confidence=float(confidence[within].mean()),
                right=float(is_right[within].mean()),
            )
        )
    return bins


METRICS: Mapping[str, Callable[[Judgements], float | None]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auroc": auroc,
    "mcc": mcc,
    "ece": ece,
    "log_loss": log_loss,
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric with its bootstrap interval; None for what can't be said."""

    value: float | None
    low: float | None = None
    high: float | None = None


def figures(judgements: Judgements) -> dict[str, Figure]:
    """Every metric, with a percentile bootstrap interval over groups (seeded: the same answers, the same interval)."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(judgements.groups == group) for group in np.unique(judgements.groups)]
    drawn: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(_RESAMPLES):
        rows = np.concatenate([members[index] for index in rng.integers(len(members), size=len(members))])
        sample = judgements.at(rows)
        for name, measure in METRICS.items():
            value = measure(sample)
            if value is not None:
                drawn[name].append(value)
    return {name: _figure(measure(judgements), drawn[name]) for name, measure in METRICS.items()}


def _figure(value: float | None, drawn: Sequence[float]) -> Figure:
    if value is None or not drawn:
        return Figure(value)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return Figure(value, float(low), float(high))
