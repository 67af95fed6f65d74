"""`duologue calibrate`: a model is asked what people have answered, and its figures and temperatures come of it."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from duologue.core.prompts import PROMPTS_VERSION
from duologue.models.calibration import Calibration, Temperature
from tests.support.command import Done, duologue, duologue_beside
from tests.support.model_server import DECISIONS, Answered, ModelRequest, ScriptedModelServer

OVER = {"type": "noul", "instructions": "Is it over?"}
REPLY = {"type": "choice", "instructions": "Which?", "criteria": {"a": "First.", "b": "Second."}}
PNG = b"\x89PNG\r\n\x1a\n"


def boastful(request: ModelRequest, name: str, _: dict[str, Any]) -> float | Mapping[str, float]:
    """Sure of itself to 0.97, and wrong about every fifth state; odd ones are over, and of kind b."""
    if name not in ("over", "reply"):  # whether it answers at all
        return 0.5
    number = int(request.body["state"].rpartition(" ")[2])
    says_odd = (number % 2 == 1) is (number % 5 != 0)
    chance = 0.97 if says_odd else 0.03
    return chance if name == "over" else {"a": 1 - chance, "b": chance}


def line(number: int, **changes: Any) -> dict[str, Any]:
    is_odd = number % 2 == 1
    return {
        "prompts": PROMPTS_VERSION,
        "state": f"Client: {number}",
        "questions": {"over": OVER, "reply": REPLY},
        "answers": {"over": "yes" if is_odd else "no", "reply": "b" if is_odd else "a"},
    } | changes


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return file


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return write(tmp_path, *map(line, range(80)))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(decide=boastful) as server:
        yield server


async def calibrate(server: ScriptedModelServer, file: Path, *options: object) -> Done:
    return await duologue_beside("calibrate", file, "--url", server.url, "--model", "boaster", *options)


async def test_a_boastful_model_is_told_how_often_it_is_right(server: ScriptedModelServer, labelled: Path) -> None:
    done = await calibrate(server, labelled, "--json")
    assert (done.status, done.err) == (0, "")
    document = done.json
    assert (document["model"], document["prompts"]) == ("boaster", PROMPTS_VERSION)
    choice, noul = document["questions"]
    for found in (choice, noul):
        assert (found["examples"], found["states"], found["problem"]) == (80, 80, "")
        before, after = found["before"], found["after"]
        assert before["accuracy"]["value"] == after["accuracy"]["value"] == 0.8
        assert before["balanced_accuracy"]["value"] == pytest.approx(0.8)
        assert before["mcc"]["value"] == pytest.approx(0.6)
        assert before["ece"]["value"] == pytest.approx(0.17)
        assert before["ece"]["low"] < 0.17 < before["ece"]["high"]
        assert after["ece"]["value"] < 0.05
        (only,) = before["bins"]
        assert (only["low"], only["high"], only["count"], only["right"]) == (0.9, 1.0, 80, 0.8)
        # so that 0.97 comes out as the 0.8 that it is worth: ln(0.97 / 0.03) / ln(0.8 / 0.2)
        assert found["temperature"] == pytest.approx(2.507, abs=0.01)


async def test_people_get_tables_diagrams_and_a_picture(
    server: ScriptedModelServer, labelled: Path, tmp_path: Path
) -> None:
    calibration, picture = tmp_path / "calibration.json", tmp_path / "reliability.png"
    done = await calibrate(server, labelled, "-o", calibration, "--plot", picture)
    assert (done.status, done.err) == (0, "")
    for said in (
        "Choices: 80 answers about 80 states, temperature 2.50",
        "Yes or no (noul): 80 answers about 80 states",
        "balanced_accuracy",
        "0.9-1.0       80   0.80  ########################     |",
        "after, held out: # right, | sure",
        f"Wrote {calibration}: name it in models.manager.calibration and in judge.calibration.",
        f"Drew {picture}",
    ):
        assert said in done.out
    assert picture.read_bytes().startswith(PNG)


async def test_what_is_written_is_what_models_read_and_the_same_each_time(
    server: ScriptedModelServer, labelled: Path, tmp_path: Path
) -> None:
    file = tmp_path / "calibration.json"
    other = Temperature(model="another", prompts="0", question="noul", temperature=3.0, examples=60)
    file.write_text(Calibration(temperatures=[other]).model_dump_json())
    await calibrate(server, labelled, "-o", file)
    written = file.read_bytes()
    found = Calibration.read(str(file))
    assert other in found.temperatures
    assert found.of_model("boaster").keys() == {"choice", "noul"}
    assert [each.examples for each in found.temperatures] == [60, 80, 80]
    await calibrate(server, labelled, "-o", file)
    assert file.read_bytes() == written


async def test_without_a_file_nothing_is_written_and_that_is_said(server: ScriptedModelServer, labelled: Path) -> None:
    done = await calibrate(server, labelled)
    assert "Nothing was written: name a file with --output." in done.out


async def test_all_questions_of_a_state_go_in_one_request_and_unlabelled_states_in_none(
    server: ScriptedModelServer, tmp_path: Path
) -> None:
    lines = [line(number) for number in range(60)]
    lines[0]["answers"]["reply"] = None
    lines[1]["answers"] = {}
    done = await calibrate(server, write(tmp_path, *lines), "--json")
    asked = [request for request in server.asked(DECISIONS) if request.body["state"].startswith("Client")]
    assert len(asked) == 59
    assert all(request.body["questions"].keys() == {"over", "reply"} for request in asked)
    assert [found["examples"] for found in done.json["questions"]] == [58, 59]


async def test_what_has_too_few_labels_is_reported_all_the_same_and_says_what_it_takes(
    server: ScriptedModelServer, tmp_path: Path
) -> None:
    lines = [line(number) for number in range(60)]
    for each in lines[20:]:
        each["answers"]["reply"] = None
    file = tmp_path / "calibration.json"
    done = await calibrate(server, write(tmp_path, *lines), "-o", file, "--plot", tmp_path / "plot.png")
    assert done.status == 0
    assert done.err == "No temperature for choice questions: 20 questions have an answer, it takes 50: label 30 more.\n"
    assert "Choices: 20 answers about 20 states, no temperature" in done.out
    assert Calibration.read(str(file)).of_model("boaster").keys() == {"noul"}


async def test_with_too_few_labels_for_anything_it_fails_and_writes_nothing(
    server: ScriptedModelServer, tmp_path: Path
) -> None:
    file = tmp_path / "calibration.json"
    only = [line(number, questions={"over": OVER}, answers={"over": "no"}) for number in range(12)]
    done = await calibrate(server, write(tmp_path, *only), "-o", file)
    assert done.status == 1
    assert "No temperature for choice questions: 0 questions have an answer, it takes 50: label 50 more." in done.err
    assert "No temperature for noul questions: 12 questions have an answer" in done.err
    assert not file.exists()


async def test_the_calibration_that_a_model_has_is_not_measured_along(
    server: ScriptedModelServer, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "calibration.json"
    first = await calibrate(server, labelled, "-o", file, "--json")
    monkeypatch.setenv("DUOLOGUE_MODELS__MANAGER__CALIBRATION", str(file))
    again = await calibrate(server, labelled, "--json")
    assert again.json == first.json


async def test_the_model_is_the_manager_of_the_settings_unless_another_is_named(
    server: ScriptedModelServer, labelled: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config").mkdir(parents=True)
    models = {"client": {"model": "x"}, "manager": {"url": server.url, "model": "from up"}}
    settings = {"concurrency": 3, "models": models}
    (home / "config/roleplay.yaml").write_text(json.dumps(settings))
    assert (await duologue_beside("calibrate", labelled, "--json")).json["model"] == "from up"
    file = home / "ours.yaml"
    file.write_text(json.dumps({"models": {"manager": {"url": server.url, "model": "from the file"}}}))
    monkeypatch.setenv("DUOLOGUE_CONFIG", str(file))
    assert (await duologue_beside("calibrate", labelled, "--json")).json["model"] == "from the file"
    monkeypatch.setenv("DUOLOGUE_MODELS__MANAGER__MODEL", "from the environment")
    monkeypatch.setenv("DUOLOGUE_MODELS__MANAGER__API_KEY", "secret")
    assert (await duologue_beside("calibrate", labelled, "--json")).json["model"] == "from the environment"
    assert server.asked(DECISIONS)[-1].headers["Authorization"] == "Bearer secret"
    assert (await duologue_beside("calibrate", labelled, "--model", "named", "--json")).json["model"] == "named"


async def test_a_model_that_stops_answering_ends_it_with_what_it_said(
    server: ScriptedModelServer, labelled: Path, tmp_path: Path
) -> None:
    def failing(request: ModelRequest, name: str, question: dict[str, Any]) -> float | Mapping[str, float]:
        if len(server.requests) > 20 and not server.faults:
            server.faults = [Answered(422, '{"detail": "no more"}')] * 100
        return boastful(request, name, question)

    server.decide = failing
    done = await calibrate(server, labelled, "-o", tmp_path / "calibration.json")
    assert (done.status, done.out) == (1, "")
    assert "The model did not answer all questions" in done.err
    assert "no more" in done.err
    assert not (tmp_path / "calibration.json").exists()


def test_a_server_that_is_not_there_is_said_at_once(labelled: Path) -> None:
    done = duologue("calibrate", labelled, "--url", "http://127.0.0.1:9", "--model", "m")
    assert done.status == 1
    assert "'m' at http://127.0.0.1:9 does not decide" in done.err
    assert "Start the server" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--url", "gpu-box:8000", "--model", "m"), "--url: 'gpu-box:8000' is no URL of a server"),
        (("--url", "http://127.0.0.1:9"), "Which model? Name it with --model"),
        (("--model", "m", "-o", "nowhere/at/all.json"), "nowhere/at/all.json can't be written: nowhere/at is not a"),
        (("--model", "m", "-o", "questions.jsonl"), "questions.jsonl is no file that `duologue calibrate` wrote"),
    ],
)
def test_wrong_usage_is_refused_before_any_model_is_asked(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(labelled.parent)
    done = duologue("calibrate", labelled, *options)
    assert (done.status, done.out) == (2, "")
    assert said in done.err


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    done = duologue("calibrate", write(tmp_path, line(1), line(2, answers={"over": "maybe"})), "--model", "m")
    assert (done.status, done.out) == (2, "")
    assert f'{tmp_path / "questions.jsonl"}:2: answers.over is "maybe", which is no option' in done.err


def test_what_is_not_installed_is_said_before_any_model_is_asked(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = duologue("calibrate", labelled, "--model", "m")
    assert (done.status, done.err) == (1, "This command needs matplotlib: install `duologue[calibrate]`.\n")
