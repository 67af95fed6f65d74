"""How far a model's probabilities are to be trusted: one temperature for each model, prompt version and question type.

Temperature scaling (Guo et al. 2017, section 4.2): p ** (1 / T), made to sum to 1. A temperature above 1 takes
confidence away; which option is likeliest does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from duologue.core.dialogue import Decision
from duologue.core.prompts import PROMPTS_VERSION, Question

LOWEST, HIGHEST = 0.05, 20.0
# What a model holds for impossible is less likely than this, and no more can be said.
_LEAST = 1e-6


class Temperature(BaseModel):
    """Of one model's answers to one type of question, as one version of the prompts asks it. 1 changes nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    prompts: str
    question: Literal["choice", "noul"]
    temperature: float = Field(ge=LOWEST, le=HIGHEST)
    examples: int = Field(ge=1)


class Calibration(BaseModel):
    """What `duologue calibrate` found. Models and prompts that it does not name are left as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperatures: list[Temperature]

    @classmethod
    def of(cls, path: str) -> Calibration | None:
        """Read the file; None for "". Raises `OSError`, or `ValueError` for another file."""
        return cls.model_validate_json(Path(path).read_bytes()) if path else None

    def applied(
        self, model: str, questions: Mapping[str, Question], decisions: Mapping[str, Decision]
    ) -> dict[str, Decision]:
        """The decisions with calibrated probabilities."""
        by_type = {
            known.question: known.temperature
            for known in self.temperatures
            if known.model == model and known.prompts == PROMPTS_VERSION
        }
        return {
            name: Decision(
                decision.question,
                decision.answer,
                tempered(decision.probabilities, by_type.get(questions[name]["type"], 1.0)),
            )
            for name, decision in decisions.items()
        }


def tempered(probabilities: Mapping[str, float], temperature: float) -> dict[str, float]:
    """The same distribution, flatter for a temperature above 1, steeper below."""
    if temperature == 1.0:
        return dict(probabilities)
    powers = {option: max(p, _LEAST) ** (1 / temperature) for option, p in probabilities.items()}
    total = sum(powers.values())
    return {option: power / total for option, power in powers.items()}
