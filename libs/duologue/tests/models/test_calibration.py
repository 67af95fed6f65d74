"""Calibrated probabilities: given where the settings say so, for the model and prompts that they were found for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.core.problems import WrongSetting
from duologue.core.prompts import PROMPTS_VERSION, Question
from duologue.models import DecisionModel, ModelServer
from duologue.models.calibration import Calibration, Temperature
from tests.support.model_server import DECISIONS, ScriptedModelServer

REPLY: Question = {"type": "choice", "instructions": "Which?", "criteria": {"a": "First.", "b": "Second."}}
OVER: Question = {"type": "noul", "instructions": "Is it over?"}


def temperature(**changes: Any) -> Temperature:
    fields = {"model": "scripted", "prompts": PROMPTS_VERSION, "question": "noul", "temperature": 2.0, "examples": 60}
    return Temperature(**(fields | changes))


def write(folder: Path, *temperatures: Temperature) -> str:
    file = folder / "calibration.json"
    file.write_text(Calibration(temperatures=list(temperatures)).model_dump_json())
    return str(file)


async def ask(calibration: str, **options: Any) -> dict[str, dict[str, float]]:
    async with (
        ScriptedModelServer(decide=lambda _, name, __: 0.8 if name == "over" else {"a": 0.8, "b": 0.2}) as server,
        ModelServer(server.endpoint(calibration=calibration)) as models,
    ):
        answers = await DecisionModel(models).ask("Hello.", {"reply": REPLY, "over": OVER}, **options)
    return {name: decision.probabilities for name, decision in answers.decisions.items()}


async def test_answers_are_given_at_the_temperature_of_their_type(tmp_path: Path) -> None:
    given = await ask(write(tmp_path, temperature(), temperature(question="choice", temperature=0.5)))
    assert given["over"] == pytest.approx({"yes": 2 / 3, "no": 1 / 3})
    assert given["reply"] == pytest.approx({"a": 0.64 / 0.68, "b": 0.04 / 0.68})


@pytest.mark.parametrize("other", [{"model": "another"}, {"prompts": "0"}, {"question": "choice", "temperature": 1.0}])
async def test_what_was_not_calibrated_is_left_as_it_is(tmp_path: Path, other: dict[str, Any]) -> None:
    assert (await ask(write(tmp_path, temperature(**other))))["over"] == pytest.approx({"yes": 0.8, "no": 0.2})


async def test_a_model_that_is_asked_for_by_name_has_its_own_temperature(tmp_path: Path) -> None:
    file = write(tmp_path, temperature(), temperature(model="another", temperature=0.5))
    assert (await ask(file, model="another"))["over"] == pytest.approx({"yes": 0.64 / 0.68, "no": 0.04 / 0.68})


async def test_close_choices_are_averaged_before_they_are_calibrated(tmp_path: Path) -> None:
    looks = [{"a": 0.52, "b": 0.48}, {"a": 0.9, "b": 0.1}]
    file = write(tmp_path, temperature(question="choice"))
    async with (
        ScriptedModelServer(decide=lambda *_: looks.pop(0)) as server,
        ModelServer(server.endpoint(calibration=file)) as models,
    ):
        answers = await DecisionModel(models).ask("Hello.", {"reply": REPLY})
        assert len(server.asked(DECISIONS)) == 2
    total = 0.71**0.5 + 0.29**0.5
    assert answers.decisions["reply"].probabilities == pytest.approx({"a": 0.71**0.5 / total, "b": 0.29**0.5 / total})


def test_a_model_says_at_which_temperatures_it_answers(tmp_path: Path) -> None:
    file = write(tmp_path, temperature(temperature=2.41), temperature(question="choice", temperature=1.8))
    server = ScriptedModelServer()
    server.url = "http://127.0.0.1:9"
    told = DecisionModel(ModelServer(server.endpoint(calibration=file)))
    assert told.calibration_of("scripted") == "choice 1.8, noul 2.41"
    assert told.calibration_of("another") == ""
    assert DecisionModel(ModelServer(server.endpoint())).calibration_of("scripted") == ""


def test_new_temperatures_replace_those_of_the_same_key_and_keep_the_others() -> None:
    old = Calibration(temperatures=[temperature(model="z"), temperature(), temperature(prompts="0")])
    new = old.with_temperatures([temperature(temperature=3.0), temperature(question="choice")])
    assert [(each.model, each.prompts, each.question, each.temperature) for each in new.temperatures] == [
        ("scripted", "0", "noul", 2.0),
        ("scripted", PROMPTS_VERSION, "choice", 2.0),
        ("scripted", PROMPTS_VERSION, "noul", 3.0),
        ("z", PROMPTS_VERSION, "noul", 2.0),
    ]
    assert new.with_temperatures([temperature(temperature=3.0)]) == new


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"calibration .*calibration.json can't be read: No such file"),
        ("{no json", r"calibration.json is no file that `duologue calibrate` wrote: the file: Invalid JSON"),
        ('{"temperatures": [{"model": "m"}]}', r"temperatures.0.prompts: Field required"),
        (
            '{"temperatures": [{"model":"m","prompts":"1","question":"noul","temperature":50,"examples":9}]}',
            r"temperatures.0.temperature: Input should be less than or equal to 20",
        ),
    ],
)
def test_a_file_that_is_no_calibration_ends_the_start_with_its_name(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "calibration.json"
    if content is not None:
        file.write_text(content)
    server = ScriptedModelServer()
    server.url = "http://127.0.0.1:9"
    with pytest.raises(WrongSetting, match=said):
        DecisionModel(ModelServer(server.endpoint(calibration=str(file))))
