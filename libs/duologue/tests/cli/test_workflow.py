"""`duologue workflow` and `duologue persona`: check, show, draw, import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from duologue.cli.drawing import draw_mermaid
from duologue.core.importers.mermaid import import_mermaid
from duologue.core.workflow import CallNode, Workflow
from duologue.core.workflow_file import load_workflow
from tests.support.command import duologue
from tests.support.desk import DESK, DESK_YAML, PERSONAS_YAML
from tests.support.requirements import ROOT, require_star

EXAMPLES = sorted((ROOT / "examples/workflows").glob("*.yaml"))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    file = tmp_path / "desk.yaml"
    file.write_text(DESK_YAML)
    return file


def test_good_workflows_are_said_to_be_good(desk: Path) -> None:
    done = duologue("workflow", "check", desk, desk)
    assert (done.status, done.err) == (0, "")
    assert done.out.count(f"ok {desk}: parcel_desk@{DESK.version}, 8 nodes") == 2


def test_every_mistake_of_all_files_is_named_with_its_line_and_fix(desk: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(DESK_YAML.replace("to: bye_no_code", "to: bye_no").replace("start: greet", "start: great"))
    done = duologue("workflow", "check", desk, wrong, tmp_path / "none.yaml")
    assert done.status == 2
    assert f'{wrong}:13: start is "great", which is not a node\n    Did you mean "greet"' in done.err
    assert f'{wrong}:19: edge "no_code" of node "greet" leads to "bye_no"' in done.err
    assert f"{tmp_path / 'none.yaml'}: can't be read: No such file or directory" in done.err
    assert f"ok {desk}" in done.out
    document = duologue("workflow", "check", desk, wrong, "--json")
    assert document.status == 2
    assert [(problem["file"], problem["line"]) for problem in document.json["problems"]] == [
        (str(wrong), 13),
        (str(wrong), 19),
    ]
    assert all(problem["message"] and problem["fix"] for problem in document.json["problems"])


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe")
    done = duologue("workflow", "check", file)
    assert done.status == 2
    assert "is not a text file in UTF-8" in done.err


def test_a_workflow_is_shown_as_a_tree_with_every_node(desk: Path) -> None:
    done = duologue("workflow", "show", desk)
    assert done.status == 0
    for said in ("Find a parcel (parcel_desk@", "at most 3 steps", "client: to report a lost parcel (code PK-9)"):
        assert said in done.out
    for name in (*DESK.nodes, *DESK.anytime):
        assert name in done.out
    assert "another (loop) -> greet" in done.out
    assert "nothing (default) -> " in done.out


def test_a_workflow_is_shown_as_json(desk: Path) -> None:
    document = duologue("workflow", "show", desk, "--json").json
    assert (document["version"], document["longest_path"]) == (DESK.version, 3)
    assert document["nodes"]["look_up"]["outcomes"]["found"]["to"] == "tell"


def shape(workflow: Workflow) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """What is said, and where the edges lead, of every node."""
    return {
        name: (
            node.call if isinstance(node, CallNode) else " ".join(node.text.split()),
            sorted((edge_id.lower(), edge.to) for edge_id, edge in node.edges.items()),
        )
        for name, node in workflow.nodes.items()
    }


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_what_is_drawn_can_be_imported_again(file: Path) -> None:
    workflow = load_workflow(file.read_text())
    done = duologue("workflow", "draw", file)
    assert done.status == 0
    again = load_workflow(import_mermaid(done.out, "again.mmd"))
    assert shape(again) == shape(workflow)
    assert again.start == workflow.start
    assert {name for name, _, edge in again.edges() if edge.loop} == {
        name for name, _, edge in workflow.edges() if edge.loop
    }


def test_texts_and_ids_with_marks_of_mermaid_s_own_survive_a_drawing() -> None:
    text = (
        'He said "A#1; B <i>&amp;</i> `x`", then went to #2 in {place} -- a_verylongwordthatisnotbrokenanywhereatall.'
    )
    source = yaml.safe_load(DESK_YAML.replace("tell", "end").replace("ask_sender", "graph").replace("search", "n-3.x"))
    source["nodes"]["end"]["say"] = text
    workflow = load_workflow(json.dumps(source, ensure_ascii=False))
    again = load_workflow(import_mermaid(draw_mermaid(workflow), "again.mmd"))
    said = {getattr(node, "text", None) for node in again.nodes.values()}
    assert text in said
    assert len(again.nodes) == len(workflow.nodes)


def test_a_flowchart_is_imported_and_checks_clean(tmp_path: Path) -> None:
    chart, output = tmp_path / "chart.mmd", tmp_path / "chart.yaml"
    chart.write_text("flowchart TD\n  a[Hello, what is it?] -->|A question| b([Goodbye!])\n")
    done = duologue("workflow", "import", chart, "--from", "mermaid", "-o", output)
    assert done.status == 0
    assert f"Wrote {output}: chart, 2 nodes, 0 anytime nodes" in done.out
    assert duologue("workflow", "check", output).status == 0


def test_a_chart_that_can_not_be_imported_writes_nothing(tmp_path: Path) -> None:
    chart, output = tmp_path / "chart.mmd", tmp_path / "chart.yaml"
    chart.write_text("sequenceDiagram\n  A->>B: Hello\n")
    done = duologue("workflow", "import", chart, "--from", "mermaid", "-o", output)
    assert done.status == 2
    assert f"{chart}:1:" in done.err
    assert not output.exists()


def test_an_output_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    chart = tmp_path / "chart.mmd"
    chart.write_text("flowchart TD\n  a[Hello?] --> b([Goodbye!])\n")
    for output in (tmp_path / "no/folder.yaml", chart / "x.yaml"):
        done = duologue("workflow", "import", chart, "--from", "mermaid", "-o", output)
        assert (done.status, "can't be written" in done.err) == (1, True)


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    chart, output = tmp_path / "chart.mmd", tmp_path / "mine.yaml"
    chart.write_text("flowchart TD\n  a[Hello?] --> b([Goodbye!])\n")
    output.write_text("work of a week")
    done = duologue("workflow", "import", chart, "--from", "mermaid", "-o", output)
    assert (done.status, "--force" in done.err) == (2, True)
    assert output.read_text() == "work of a week"
    assert duologue("workflow", "import", chart, "--from", "mermaid", "-o", output, "--force").status == 0
    assert load_workflow(output.read_text()).start == "a"
    assert {file.name for file in tmp_path.iterdir()} == {"chart.mmd", "mine.yaml"}


def test_what_a_workflow_says_is_not_taken_for_markup_or_for_what_steers_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "[bold]desk.yaml"
    file.write_text(DESK_YAML.replace("title: Find a parcel", r'title: "[red]Find[/red] :smile: a \e[31mparcel"'))
    shown = duologue("workflow", "show", file)
    assert "[red]Find[/red] :smile: a \ufffd[31mparcel (parcel_desk@" in shown.out
    assert f"ok {file}: parcel_desk@" in duologue("workflow", "check", file).out


def test_a_star_task_is_imported_and_an_unknown_one_refused(tmp_path: Path) -> None:
    tasks, output = require_star() / "tasks.json", tmp_path / "task.yaml"
    done = duologue("workflow", "import", tasks, "--from", "star", "-o", output)
    assert (done.status, "--task NAME" in done.err) == (2, True)
    done = duologue("workflow", "import", tasks, "--from", "star", "--task", "no_such_task", "-o", output)
    assert done.status == 2
    assert "no_such_task" in done.err
    assert not output.exists()
    assert duologue("workflow", "import", tasks, "--from", "star", "--task", "weather", "-o", output).status == 0
    assert duologue("workflow", "check", output).status == 0


def test_personas_are_checked(tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.yaml", tmp_path / "wrong.yaml"
    good.write_text(PERSONAS_YAML)
    wrong.write_text("personas:\n  - {id: a, character: x, description: y}\n  - {id: a, character: z, descripton: y}\n")
    done = duologue("persona", "check", good)
    assert (done.status, done.err) == (0, "")
    assert f"ok {good}: teacher, runner" in done.out
    done = duologue("persona", "check", good, wrong)
    assert done.status == 2
    assert f"{wrong}:3: personas.1.descripton is not a known field" in done.err
    document = duologue("persona", "check", good, wrong, "--json")
    assert document.status == 2
    assert {problem["line"] for problem in document.json["problems"]} == {3}
