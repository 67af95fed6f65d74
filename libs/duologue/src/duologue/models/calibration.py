"""How far a model's probabilities are to be trusted: a temperature for each model, prompts version, question type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from duologue.core.dialogue import Decision
from duologue.core.problems import WrongSetting
from duologue.core.prompts import PROMPTS_VERSION, Question
from duologue.core.temperature import HIGHEST, LOWEST, tempered


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
    def read(cls, path: str) -> Calibration:
        """Raises `WrongSetting` for a file that can't be read, or that is something else."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise WrongSetting(f"calibration {path} can't be read: {error.strerror}") from error
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            where = ".".join(map(str, wrong["loc"])) or "the file"
            raise WrongSetting(f"{path} is no file that `duologue calibrate` wrote: {where}: {wrong['msg']}") from error

    def of_model(self, model: str) -> dict[str, float]:
        """The temperatures of a model's answers, by the type of question, as these prompts ask it."""
        return {
            known.question: known.temperature
            for known in self.temperatures
            if known.model == model and known.prompts == PROMPTS_VERSION
        }

    def with_temperatures(self, found: Iterable[Temperature]) -> Calibration:
        """These in place of older ones of the same model, prompts and type of question, and all others kept."""
        by_key = {_key(each): each for each in (*self.temperatures, *found)}
        return Calibration(temperatures=[by_key[key] for key in sorted(by_key)])

    def applied(
        self, model: str, questions: Mapping[str, Question], decisions: Mapping[str, Decision]
    ) -> dict[str, Decision]:
        """The decisions with calibrated probabilities."""
        by_type = self.of_model(model)
        return {
            name: Decision(
                decision.question,
                decision.answer,
                tempered(decision.probabilities, by_type.get(questions[name]["type"], 1.0)),
            )
            for name, decision in decisions.items()
        }


def _key(temperature: Temperature) -> tuple[str, str, str]:
    return temperature.model, temperature.prompts, temperature.question
