"""Help, wrong usage, and commands with nothing running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from duologue.cli.app import app
from duologue.cli.local.layout import ML_PYTHON_VARIABLE
from tests.support.command import duologue


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_commands_are_those_that_are_promised() -> None:
    leaves = {" ".join(path) for path, command in COMMANDS.items() if not hasattr(command, "commands")}
    assert leaves == {
        *("up", "down", "status", "run", "score", "calibrate", "doctor", "persona check"),
        *(f"campaign {verb}" for verb in ("create", "list", "show", "watch", "pause", "resume", "cancel")),
        *(f"dialogue {verb}" for verb in ("list", "show", "questions")),
        *(f"dataset {verb}" for verb in ("list", "show", "export")),
        *(f"adapter {verb}" for verb in ("list", "show", "promote", "rollback")),
        *(f"workflow {verb}" for verb in ("check", "show", "draw", "import")),
        *(f"dlq {verb}" for verb in ("list", "show", "replay")),
        *(f"topics {verb}" for verb in ("plan", "apply", "check")),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_what_each_option_means(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert (command.help or "").strip()
    for parameter in command.params:
        assert (getattr(parameter, "help", None) or "").strip(), parameter.name
    done = duologue(*path, "--help")
    assert done.status == 0
    assert (command.help or "").split("\n")[0].split()[0] in done.out
    assert duologue(*path, "-h").out == done.out


def is_group(command: Any) -> bool:
    return hasattr(command, "list_commands")


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if is_group(command)], ids=" ".join)
def test_a_group_shows_an_example(path: tuple[str, ...]) -> None:
    assert "duologue " in (COMMANDS[path].epilog or "")


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not is_group(command)], ids=" ".join)
def test_a_command_shows_an_example_of_itself(path: tuple[str, ...]) -> None:
    _, _, example = (COMMANDS[path].help or "").partition("Example")
    assert f"duologue {' '.join(path)}" in example


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["campaign", "nonsense"],
        ["campaign", "show"],
        ["status", "--nonsense"],
        ["dialogue", "list", "x", "--limit", "many"],
        ["dialogue", "list", "x", "--limit", "0"],
        ["dialogue", "list", "x", "--split", "both"],
        ["dialogue", "list", "x", "--decision", "accepted"],
        ["dataset", "export", "x", "-o", "y", "--format", "csv"],
        ["up", "--port-base", "80"],
        ["workflow", "import", "x", "--from", "visio", "-o", "y"],
        ["dlq", "replay"],
        ["dlq", "replay", "x", "--all"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_no_stack(arguments: list[str]) -> None:
    done = duologue(*arguments)
    assert done.status == 2
    assert done.err.strip()
    assert "Traceback" not in done.err


def test_status_with_nothing_running_says_so(home: Path) -> None:
    done = duologue("status")
    assert done.status == 1
    assert "Nothing runs. Start it with `duologue up`." in done.out
    done = duologue("status", "--json")
    assert done.status == 1
    assert done.json == {"home": str(home), "processes": []}


def test_down_with_nothing_running_is_fine(home: Path) -> None:
    done = duologue("down")
    assert done.status == 0
    assert "Nothing runs." in done.out


def test_doctor_with_nothing_running_says_what_to_do() -> None:
    done = duologue("doctor")
    assert done.status == 1
    assert "services: none run" in done.out
    assert "Start them with `duologue up`." in done.out
    findings = {finding["subject"]: finding for finding in duologue("doctor", "--json").json["findings"]}
    assert findings["python"]["ok"]
    assert findings["disk"]["ok"]
    assert (findings["services"]["ok"], findings["services"]["fix"]) == (False, "Start them with `duologue up`.")


def test_an_interpreter_that_is_not_there_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ML_PYTHON_VARIABLE, "/nonexistent")
    findings = {finding["subject"]: finding for finding in duologue("doctor", "--json").json["findings"]}
    assert not findings["environment with torch"]["ok"]
    assert "DUOLOGUE_ML_PYTHON is /nonexistent" in findings["environment with torch"]["fix"]
    done = duologue("up", "--models", "some/model")
    assert (done.status, "DUOLOGUE_ML_PYTHON is /nonexistent" in done.err) == (1, True)
    assert not home.exists()


@pytest.mark.parametrize(
    ("models", "status", "said"),
    [
        ("http://127.0.0.1:9#some-model", 1, "The model server at http://127.0.0.1:9 does not answer"),
        ("./nowhere", 2, "./nowhere is not a folder."),
        ("http://127.0.0.1:9", 1, "The model server at http://127.0.0.1:9 does not answer: Connection refused."),
        ("EMPTY", 2, "it holds no model"),
    ],
)
def test_up_with_models_that_are_not_there_starts_nothing(
    home: Path, tmp_path: Path, models: str, status: int, said: str
) -> None:
    done = duologue("up", "--models", str(tmp_path) if models == "EMPTY" else models)
    assert done.status == status
    assert said in done.err.replace("\n", " ")
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["campaign", "list"],
        ["campaign", "watch", "x"],
        ["dialogue", "show", "x"],
        ["dataset", "list"],
        ["adapter", "list"],
    ],
    ids=" ".join,
)
def test_a_control_plane_that_does_not_answer_is_named_with_what_to_do(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUOLOGUE_ADDRESS", "127.0.0.1:9")
    done = duologue(*arguments)
    assert done.status == 1
    assert "The campaign service does not answer at 127.0.0.1:9." in done.err
    assert "duologue up" in done.err
