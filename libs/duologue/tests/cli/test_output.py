"""What commands print: whole on a narrow terminal, text as text, hints that can be pasted, files that are whole."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from rich.text import Text

from duologue.cli.files import replacing
from duologue.cli.invocation import command
from duologue.cli.output import Failure, console, literal, print_table, printable
from duologue.cli.transcript import latest_lines, print_dialogue
from duologue.contracts.convert import dialogue_to_proto, scores_to_proto
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2
from tests.support.desk import dialogue, scores

REASON = "subgoals_relative is 0.25, which is below the 0.5 that this campaign asks for"


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "width", 80)


@pytest.mark.usefixtures("_narrow")
def test_on_a_narrow_terminal_ids_stay_whole_and_the_last_column_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    identity = "duologue.dialogue.generated.v1/scoring/3/17"
    print_table("Letters", ("id", "failed", "reason"), [(identity, "2026-11-22 21:41, replayed", REASON)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(f"{identity}  ") for line in lines)
    assert lines[1].split() == ["id", "failed", "reason"]
    column = lines[1].index("reason")
    assert " ".join(line[column:].strip() for line in lines[2:]) == REASON


@pytest.mark.usefixtures("_narrow")
def test_where_nothing_can_give_way_nothing_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Wide", ("id", "other", "why"), [("a" * 50, "b" * 50, "because")])
    assert "because" in capsys.readouterr().out


def test_a_table_shows_text_as_it_is_and_keeps_our_colours(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Of [bold]x", ("id", "state"), [("[red]a[/]", Text("yes", style="green")), (":smile:", "[/]")])
    out = capsys.readouterr().out
    for said in ("Of [bold]x", "[red]a[/]", "yes", ":smile:", "[/]"):
        assert said in out


def test_an_empty_table_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Dialogues of Desk", ("id",), [])
    assert capsys.readouterr().out == "No dialogues of Desk.\n"


def test_what_steers_a_terminal_is_not_printed() -> None:
    assert printable("a\x1b[2Jb\x9b31mc\x7fd\ud800e") == "a\ufffd[2Jb\ufffd31mc\ufffdd\ufffde"
    assert printable("one\ntwo\tthree\u2028four\x85five") == "one two three four five"
    assert printable("Grüße 😀 [bold]") == "Grüße 😀 [bold]"
    assert Text.from_markup(literal("[bold]x[/]\n")).plain == "[bold]x[/] "


def test_an_utterance_takes_one_line_and_no_control_over_the_terminal() -> None:
    record = pb.DialogueRecord(dialogue=dialogue_to_proto(dialogue()), scores=scores_to_proto(scores()))
    record.dialogue.turns[-1].text = "Goodbye!\n\x1b[2J[red]dropped[/]"
    *_, said, _ = latest_lines(record, 12)
    assert said.plain == "   agent  Goodbye! \ufffd[2J[red]dropped[/]"


def test_the_last_turns_of_a_long_dialogue_say_that_others_came_before() -> None:
    record = pb.DialogueRecord(dialogue=dialogue_to_proto(dialogue()), scores=scores_to_proto(scores()))
    turns = len(record.dialogue.turns)
    assert "before" not in " ".join(line.plain for line in latest_lines(record, turns))
    _, before, last, _ = latest_lines(record, 1)
    assert before.plain == f"     ...  {turns - 1} turns before"
    assert last.plain.endswith(record.dialogue.turns[-1].text)


@pytest.mark.usefixtures("_narrow")
def test_on_a_narrow_terminal_a_dialogue_shows_ids_and_decisions_whole(capsys: pytest.CaptureFixture[str]) -> None:
    node, decided = "ask_for_the_tracking_code", "reply: still_waiting_for 0.92"
    record = pb.DialogueRecord(dialogue=dialogue_to_proto(dialogue()), scores=scores_to_proto(scores()))
    del record.scores.nodes[:]
    for turn in record.dialogue.turns:
        turn.node, turn.text = node, "Then I need the tracking code from your card, please."
        del turn.decisions[:]
        turn.decisions.add(question="reply", answer="still_waiting_for", probabilities={"still_waiting_for": 0.92})
    print_dialogue(record)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    agents = sum(turn.role == dialogue_pb2.ROLE_AGENT for turn in record.dialogue.turns)
    assert sum(f"  {node}  " in line for line in lines) >= agents > 0
    assert sum("  heard none" in line for line in lines) == agents
    assert sum(decided in line for line in lines) == len(record.dialogue.turns)


def test_a_dialogue_that_was_not_played_by_duologue_s_own_rules_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    record = pb.DialogueRecord(dialogue=dialogue_to_proto(dialogue()), scores=scores_to_proto(scores()))
    print_dialogue(record)
    assert "preset" not in capsys.readouterr().out
    record.dialogue.provenance.preset = dialogue_pb2.PRESET_ULMER2024
    print_dialogue(record)
    assert "preset ulmer2024" in " ".join(capsys.readouterr().out.split())


def test_hints_say_how_the_command_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "my tools" / "duologue"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    called = {
        "duologue": "duologue up",
        str(script): "'my tools/duologue' up",
        "my tools/duologue": "'my tools/duologue' up",
        "/somewhere/cli/__main__.py": " -m duologue.cli up",
    }
    for name, hint in called.items():
        monkeypatch.setattr(sys, "argv", [name])
        assert command("up").endswith(hint)
    monkeypatch.chdir(script.parent)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert command("up") == "./duologue up"
    monkeypatch.setenv("PATH", str(script.parent))
    assert command("up") == "duologue up"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("before")

    def fill_the_disk() -> None:
        with replacing(output) as new:
            new.write_text("hal")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Failure, match=f"{output} can't be written: No space left on device"):
        fill_the_disk()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out.txt", "before")]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for output in (tmp_path, pipe):
        with pytest.raises(Failure, match="it is not a file"), replacing(output) as new:
            new.write_text("x")
    assert pipe.is_fifo()
