"""`duologue up`, `down` and `status`: the services on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from duologue.cli.invocation import command
from duologue.cli.local.layout import (
    DEFAULT_PORT_BASE,
    PORT_BASE_VARIABLE,
    Layout,
    Ports,
    State,
    missing_ml_python,
    ml_python,
)
from duologue.cli.local.models import find_model
from duologue.cli.local.processes import processes
from duologue.cli.local.readiness import busy_ports, check_models, is_ready, wait_until_ready
from duologue.cli.local.supervisor import Supervisor
from duologue.cli.output import AsJson, Failure, console, literal, print_json, print_table

_DEFAULT_MODELS = "tiny"
_READY_SECONDS = 120.0


def up(
    models: Annotated[
        str | None,
        typer.Option(
            envvar="MODELS",
            show_default=_DEFAULT_MODELS,
            help="tiny (ships with the repository), smollm2, a model's id or folder, or the URL of an "
            "OpenAI-compatible server (URL#MODEL names one of several).",
        ),
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65_000,
            envvar=PORT_BASE_VARIABLE,
            show_default=str(DEFAULT_PORT_BASE),
            help="Ports are counted from here.",
        ),
    ] = None,
) -> None:
    """Start the five services and two model servers in the background.

    Examples: duologue up; duologue up --models smollm2; duologue up --models http://gpu-box:8000
    """
    layout = Layout.here()
    supervisor = Supervisor(layout)
    if supervisor.states() is not None:
        _require_same(layout.state, models, port_base)
        _print_status(layout, supervisor)
        return
    state = State(port_base or DEFAULT_PORT_BASE, models or _DEFAULT_MODELS)
    fix = missing_ml_python()
    python = None if fix else ml_python()
    model = find_model(state.models, layout, python)
    if fix:
        raise Failure(f"Training and the local model server need an environment with torch.\n    {fix}")
    if supervisor.stop():
        console.print("Stopped what a killed supervisor had left running.")
    ports = Ports(state.port_base)
    wanted = processes(layout, ports, model, python)
    names = [process.name for process in wanted]
    busy = busy_ports(ports, names)
    if busy:
        listed = "\n".join(f"    port {port} ({name}) is in use" for name, port in busy)
        raise Failure(
            f"Something else listens where the services would:\n{listed}\n"
            f"    Use another --port-base, or set {PORT_BASE_VARIABLE}."
        )
    layout.remember(state)
    console.print(f"Starting {len(names)} processes; state and logs are in {layout.home}", markup=False)
    supervisor.start(wanted)
    try:
        wait_until_ready(
            supervisor, ports, names, _READY_SECONDS, lambda name: console.print(f"  [green]up[/]  {name}")
        )
        _require_models(layout)
    except (Failure, KeyboardInterrupt):
        supervisor.stop()
        raise
    console.print(f"Ready. Next: [bold]{literal(command('run examples/campaigns/quickstart.yaml'))}[/]", soft_wrap=True)


def down() -> None:
    """Stop the services; what is in work is finished first.

    Example: duologue down
    """
    console.print("Stopping: what is in work is finished first.")
    console.print("Stopped." if Supervisor(Layout.here()).stop() else "Nothing runs.")


def status(as_json: AsJson = False) -> None:
    """What runs on this machine. Exit status 1 when something does not.

    Example: duologue status --json
    """
    layout = Layout.here()
    supervisor = Supervisor(layout)
    if as_json:
        rows = _rows(layout, supervisor)
        print_json({"home": str(layout.home), "processes": rows})
        raise typer.Exit(0 if rows and all(row["ready"] for row in rows) else 1)
    if supervisor.states() is None:
        left = len(supervisor.orphans())
        what = f"The supervisor was killed, {left} processes go on without it." if left else "Nothing runs."
        console.print(f"{what} Start it with `{command('up')}`.", markup=False)
        raise typer.Exit(1)
    if not _print_status(layout, supervisor):
        raise typer.Exit(1)


def _require_same(running: State | None, models: str | None, port_base: int | None) -> None:
    """What is not asked for may be as it is."""
    if running is None:
        raise Failure(f"Already up, nobody knows with which models; run `{command('down')}` first.")
    said = f"Already up with models {running.models}, ports from {running.port_base}"
    if models not in (None, running.models) or port_base not in (None, running.port_base):
        raise Failure(f"{said}; run `{command('down')}` first.")
    console.print(f"{said}.", markup=False)


def _require_models(layout: Layout) -> None:
    broken = [status for status in check_models(layout) if not status.ok]
    if broken:
        raise Failure("\n".join(f"{status.part} model {status.model!r}: {status.problem}" for status in broken))
    console.print("  [green]up[/]  the models answer")


def _rows(layout: Layout, supervisor: Supervisor) -> list[dict[str, object]]:
    return [
        {
            "name": process.name,
            "state": process.state.lower(),
            "ready": is_ready(process.name, layout.ports),
            "pid": process.pid,
            "seconds": process.since_seconds,
            "log": str(layout.logs / f"{process.name}.log"),
        }
        for process in supervisor.states() or []
    ]


def _print_status(layout: Layout, supervisor: Supervisor) -> bool:
    rows = _rows(layout, supervisor)
    print_table(
        f"Local services ({layout.home})",
        ("process", "state", "serves", "pid", "since", "log"),
        [
            (
                str(row["name"]),
                str(row["state"]),
                Text("yes", style="green") if row["ready"] else Text("no", style="red"),
                str(row["pid"] or "-"),
                f"{row['seconds']:.0f} s",
                str(row["log"]),
            )
            for row in rows
        ],
    )
    return all(row["ready"] for row in rows)
