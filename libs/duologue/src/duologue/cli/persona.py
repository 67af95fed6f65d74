"""`duologue persona`: check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.files import read_text
from duologue.cli.output import AsJson, complain, console, literal, print_json
from duologue.core.persona import load_personas
from duologue.core.problems import InvalidInput, Problem

app = typer.Typer(
    help="Personas: who the client is.",
    no_args_is_help=True,
    epilog="Example: duologue persona check examples/personas/training.yaml",
)


@app.callback()
def _group() -> None:
    """Personas: who the client is."""


@app.command("check")
def check(files: Annotated[list[Path], typer.Argument(help="Persona files.")], as_json: AsJson = False) -> None:
    """Check persona files; every mistake is named with its line. Exit status 2 if there is one.

    Example: duologue persona check examples/personas/*.yaml
    """
    problems: list[Problem] = []
    for file in files:
        try:
            personas = load_personas(read_text(file), str(file))
        except InvalidInput as error:
            problems.extend(error.problems)
        else:
            if not as_json:
                ids = ", ".join(persona.id for persona in personas)
                console.print(f"[green]ok[/] {literal(str(file))}: {literal(ids)}", soft_wrap=True)
    if as_json:
        fields = ("file", "line", "message", "fix")
        print_json({"problems": [{name: getattr(problem, name) for name in fields} for problem in problems]})
    for problem in problems if not as_json else ():
        complain(str(problem))
    if problems:
        raise typer.Exit(2)
