"""`duologue workflow`: check, show, draw and import."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.tree import Tree

from duologue.cli.drawing import draw_mermaid
from duologue.cli.files import read_text, read_workflow, replacing
from duologue.cli.output import AsJson, Failure, complain, console, literal, print_json, printable
from duologue.core.importers.mermaid import import_mermaid
from duologue.core.importers.star import import_star
from duologue.core.problems import InvalidInput, Problem
from duologue.core.workflow import CallNode, EndNode, Workflow
from duologue.core.workflow_file import load_workflow

app = typer.Typer(
    help="Workflows: check, show, draw, import.",
    no_args_is_help=True,
    epilog="Examples: duologue workflow check examples/workflows/*.yaml; "
    "duologue workflow import --from mermaid chart.mmd -o workflow.yaml",
)
File = Annotated[Path, typer.Argument(help="A workflow file.")]


class Source(StrEnum):
    STAR = "star"
    MERMAID = "mermaid"


@app.command("check")
def check(files: Annotated[list[Path], typer.Argument(help="Workflow files.")], as_json: AsJson = False) -> None:
    """Check workflows; every mistake is named with its line and how to mend it. Exit status 2 if there is one.

    Example: duologue workflow check examples/workflows/*.yaml
    """
    problems: list[Problem] = []
    for file in files:
        try:
            workflow = read_workflow(file)
        except InvalidInput as error:
            problems.extend(error.problems)
        else:
            if not as_json:
                found = f"{workflow.id}@{workflow.version}, {len(workflow.nodes)} nodes"
                console.print(f"[green]ok[/] {literal(str(file))}: {literal(found)}", soft_wrap=True)
    if as_json:
        fields = ("file", "line", "message", "fix")
        print_json({"problems": [{name: getattr(problem, name) for name in fields} for problem in problems]})
    for problem in problems if not as_json else ():
        complain(str(problem))
    if problems:
        raise typer.Exit(2)


@app.command("show")
def show(file: File, as_json: AsJson = False) -> None:
    """A workflow as a tree: what the agent says, and where the replies lead.

    Example: duologue workflow show examples/workflows/bike_repair.yaml
    """
    workflow = read_workflow(file)
    if as_json:
        document = workflow.model_dump()
        print_json({**document, "version": workflow.version, "longest_path": workflow.longest_path})
        return
    console.print(f"[bold]{literal(workflow.title)}[/] ({literal(workflow.id)}@{workflow.version})")
    role = printable(workflow.agent.role)
    console.print(f"agent: {role}; at most {workflow.longest_path} steps without loops", markup=False)
    for intention in workflow.intentions:
        facts = ", ".join(f"{name} {value}" for name, value in intention.facts.items())
        console.print(printable(f"client: to {intention.goal}" + (f" ({facts})" if facts else "")), markup=False)
    tree = Tree(_label(workflow, workflow.start))
    _grow(tree, workflow, workflow.start, {workflow.start})
    console.print(tree)
    for name, anytime in workflow.anytime.items():
        console.print(f"anytime [bold]{literal(name)}[/]: {literal(anytime.say)}")


@app.command("draw")
def draw(file: File) -> None:
    """Print a workflow as a mermaid flowchart, for Markdown pages and mermaid.live.

    Example: duologue workflow draw examples/workflows/bike_repair.yaml
    """
    print(draw_mermaid(read_workflow(file)), end="")


@app.command("import")
def import_workflow(
    file: Annotated[Path, typer.Argument(help="The file to import from.")],
    source: Annotated[Source, typer.Option("--from", help="star: tasks of the STAR data set. mermaid: a flowchart.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The workflow file to write.")],
    task: Annotated[str, typer.Option(help="Which task of a STAR file.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Make a workflow out of another tool's graph. It is checked before it is written.

    Examples: duologue workflow import --from mermaid chart.mmd -o workflow.yaml;
    duologue workflow import --from star tasks.json --task weather -o weather.yaml
    """
    if output.exists() and not force:
        raise Failure(f"{output} is there already.\n    Name another --output, or replace it with --force.", status=2)
    text = read_text(file)
    if source is Source.STAR:
        if not task:
            raise Failure("--from star needs --task NAME.", status=2)
        imported = import_star(text, str(file), task)
    else:
        imported = import_mermaid(text, str(file))
    workflow = load_workflow(imported, str(output))
    with replacing(output) as new:
        new.write_text(imported, encoding="utf-8")
    console.print(
        f"Wrote {output}: {workflow.id}, {len(workflow.nodes)} nodes, {len(workflow.anytime)} anytime nodes",
        markup=False,
        soft_wrap=True,
    )


def _label(workflow: Workflow, name: str) -> str:
    node = workflow.nodes[name]
    if isinstance(node, CallNode):
        return f"[yellow]{literal(name)}[/] call {literal(node.call)}"
    if isinstance(node, EndNode):
        return f"[bold]{literal(name)}[/] [dim]({node.outcome})[/] {literal(node.end)}"
    return f"[bold]{literal(name)}[/] {literal(node.say)}"


def _grow(tree: Tree, workflow: Workflow, name: str, shown: set[str]) -> None:
    """Each node is spelt out once; further ways to it only name it."""
    for edge_id, edge in workflow.nodes[name].edges.items():
        reply = f"[cyan]{literal(edge_id)}[/]" + " (default)" * edge.default + " (loop)" * edge.loop
        if edge.to in shown:
            tree.add(f"{reply} -> {literal(edge.to)}")
            continue
        shown.add(edge.to)
        _grow(tree.add(f"{reply} -> {_label(workflow, edge.to)}"), workflow, edge.to, shown)
