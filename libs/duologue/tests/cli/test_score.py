"""`duologue score`: the scores of dialogues in a file, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue.core.scores import Utterance, score_dialogue
from duologue.core.text import diversity
from tests.support.command import Done, duologue
from tests.support.desk import DESK, DESK_YAML, dialogue

GOOD = dialogue()
FIELDS = ("words", "ngrams", "subgoals_absolute", "subgoals_relative", "subgoals_branch", "ended", "success")


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    file = tmp_path / "desk.yaml"
    file.write_text(DESK_YAML)
    return file


def document(identity: Any = "good", **changes: Any) -> dict[str, Any]:
    turns = [{"role": turn.role.value, "text": turn.text} for turn in GOOD.turns]
    return {"id": identity, "turns": turns, "facts": GOOD.facts} | changes


def score(folder: Path, workflow: Path, *lines: Any, as_json: bool = True) -> Done:
    file = folder / "dialogues.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return duologue("score", file, "--workflow", workflow, *(["--json"] if as_json else []))


def test_every_dialogue_has_its_scores_and_the_file_its_means(tmp_path: Path, workflow: Path) -> None:
    stray = document("stray", turns=[{"role": "agent", "text": "Who goes there?"}, {"role": "client", "text": "Me."}])
    done = score(tmp_path, workflow, document(), stray)
    assert (done.status, done.err) == (0, "")
    good, other = done.json["dialogues"]
    expected = score_dialogue([Utterance(turn.role, turn.text) for turn in GOOD.turns], DESK, GOOD.facts)
    assert {name: good[name] for name in FIELDS} == {name: getattr(expected, name) for name in FIELDS}
    assert set(good) == {"id", *FIELDS, "nodes", "repeats", "role_leaks"}
    assert good["nodes"] == ["greet", "tell", "bye"]
    assert other["nodes"] == [None]
    assert (good["ended"], other["ended"]) == (True, False)
    assert done.json["count"] == 2
    assert done.json["means"]["ended"] == 0.5
    assert done.json["means"]["words"] == (good["words"] + other["words"]) / 2
    spoken = [" ".join(turn.text for turn in GOOD.turns if turn.role != "tool"), "Who goes there? Me."]
    assert done.json["diversity"] == diversity(spoken)


def test_facts_are_not_needed(tmp_path: Path, workflow: Path) -> None:
    bare = document()
    del bare["facts"]
    (scored,) = score(tmp_path, workflow, bare).json["dialogues"]
    assert scored["nodes"] == ["greet", "tell", "bye"]


@pytest.mark.parametrize("identity", ["a", 7, ""])
def test_an_id_comes_back_as_it_was(tmp_path: Path, workflow: Path, identity: str | int) -> None:
    (scored,) = score(tmp_path, workflow, document(identity)).json["dialogues"]
    assert scored["id"] == identity


def test_more_fields_do_no_harm_and_empty_lines_are_skipped(tmp_path: Path, workflow: Path) -> None:
    turns = [{"role": "agent", "text": "Hello.", "time": 3}]
    done = score(tmp_path, workflow, "", document(turns=turns, label="x"), "  ")
    assert (done.status, done.json["count"]) == (0, 1)


def test_a_dialogue_of_nothing_has_scores_of_nothing(tmp_path: Path, workflow: Path) -> None:
    (scored,) = score(tmp_path, workflow, document(turns=[])).json["dialogues"]
    assert (scored["words"], scored["nodes"], scored["subgoals_relative"]) == (0, [], 0.0)


def test_no_dialogues_have_no_means(tmp_path: Path, workflow: Path) -> None:
    done = score(tmp_path, workflow)
    assert done.status == 0
    assert done.json == {"dialogues": [], "count": 0, "diversity": 1.0, "means": {}}


def test_texts_may_hold_any_letter(tmp_path: Path, workflow: Path) -> None:
    text = "one\u2028two\u0085three\x1cfour 😀"
    done = score(tmp_path, workflow, document(turns=[{"role": "agent", "text": text}]))
    assert (done.status, done.err) == (0, "")
    assert done.json["dialogues"][0]["words"] == 4


def test_bad_lines_are_all_named_with_what_is_wrong(tmp_path: Path, workflow: Path) -> None:
    done = score(
        tmp_path,
        workflow,
        document(),
        "{no json",
        {"turns": []},
        document(turns=[{"role": "robot", "text": "Hello."}]),
        "[1]",
        document(turns=[{"role": "agent"}]),
        document(identity=True),
        document(turns={}),
    )
    assert (done.status, done.out) == (2, "")
    file = tmp_path / "dialogues.jsonl"
    for said in (
        f"{file}:2: not JSON: ",
        f"{file}:3: id is missing\n    One dialogue a line: ",
        f"{file}:4: turns.0.role: ",
        f"{file}:5: is not a JSON object\n    One dialogue a line: ",
        f"{file}:6: turns.0.text is missing",
        f"{file}:7: id: should be text or a whole number (got True)",
        f"{file}:8: turns: should be a list",
    ):
        assert said in done.err
    assert "The client is the user, the agent the assistant" in done.err
    assert done.err.count(f"{file}:") == 7


def test_files_that_can_not_be_read_are_named(tmp_path: Path, workflow: Path) -> None:
    done = duologue("score", tmp_path / "none.jsonl", "-w", workflow)
    assert (done.status, f"{tmp_path / 'none.jsonl'}: can't be read" in done.err) == (2, True)
    (tmp_path / "empty.jsonl").write_text("")
    done = duologue("score", tmp_path / "empty.jsonl", "-w", tmp_path / "none.yaml")
    assert (done.status, f"{tmp_path / 'none.yaml'}: can't be read" in done.err) == (2, True)
    assert duologue("score", tmp_path / "empty.jsonl").status == 2


def test_people_get_a_table(tmp_path: Path, workflow: Path) -> None:
    done = score(tmp_path, workflow, document(), as_json=False)
    assert done.status == 0
    assert "greet tell bye" in done.out
    assert "1 dialogues, diversity 1" in done.out
    assert "means: words " in done.out
