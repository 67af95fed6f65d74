"""`duologue up`, `down` and `status`: the services on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.local.layout import DEFAULT_PORT_BASE, Layout, Ports, State, ml_python
from duologue.cli.local.models import find_model
from duologue.cli.local.processes import processes
from duologue.cli.local.readiness import busy_ports, check_models, is_ready, wait_until_ready
from duologue.cli.local.supervisor import Supervisor
from duologue.cli.output import AsJson, Failure, console, print_json, print_table

_READY_SECONDS = 120.0


def up(
    models: Annotated[
        str,
        typer.Option(
            envvar="MODELS",
            help="tiny (ships with the repository), smollm2, a model's id or folder, or the URL of an "
            "OpenAI-compatible server (URL#MODEL names one of several).",
        ),
    ] = "tiny",
    port_base: Annotated[
        int, typer.Option(min=1024, max=65_000, help="Ports are counted from here.")
    ] = DEFAULT_PORT_BASE,
) -> None:
    """Start the five services and two model servers in the background.

    Examples: duologue up; duologue up --models smollm2; duologue up --models http://gpu-box:8000
    """
    layout = Layout.here()
    supervisor = Supervisor(layout)
    if supervisor.states() is not None:
        state = layout.state
        console.print(
            f"Already up with models {state.models if state else '?'}. To change them: `duologue down` first."
        )
        _print_status(layout, supervisor)
        return
    python = ml_python()
    model = find_model(models, layout, python)
    if python is None:
        raise Failure(
            "Training and the local model server need an environment with torch, and there is none.\n"
            "    Run `make setup` in the repository, or set DUOLOGUE_ML_PYTHON to its interpreter."
        )
    ports = Ports(port_base)
    wanted = processes(layout, ports, model, python)
    names = [process.name for process in wanted]
    busy = busy_ports(ports, names)
    if busy:
        listed = "\n".join(f"    port {port} ({name}) is in use" for name, port in busy)
        raise Failure(f"Something else listens where the services would:\n{listed}\n    Use another --port-base.")
    layout.remember(State(port_base, models))
    console.print(f"Starting {len(names)} processes; state and logs are in {layout.home}")
    supervisor.start(wanted)
    try:
        wait_until_ready(
            supervisor, ports, names, _READY_SECONDS, lambda name: console.print(f"  [green]up[/]  {name}")
        )
        _require_models(ports)
    except (Failure, KeyboardInterrupt):
        supervisor.stop()
        raise
    console.print("Ready. Next: [bold]duologue run examples/campaigns/quickstart.yaml[/]")


def down() -> None:
    """Stop the services; what is in work is finished first."""
    console.print("Stopping: what is in work is finished first.")
    console.print("Stopped." if Supervisor(Layout.here()).stop() else "Nothing runs.")


def status(as_json: AsJson = False) -> None:
    """What runs on this machine. Exit status 1 when something does not."""
    layout = Layout.here()
    supervisor = Supervisor(layout)
    if as_json:
        rows = _rows(layout, supervisor)
        print_json({"home": str(layout.home), "processes": rows})
        raise typer.Exit(0 if rows and all(row["ready"] for row in rows) else 1)
    if supervisor.states() is None:
        console.print("Nothing runs. Start it with `duologue up`.")
        raise typer.Exit(1)
    if not _print_status(layout, supervisor):
        raise typer.Exit(1)


def _require_models(ports: Ports) -> None:
    broken = [status for status in check_models(ports) if not status.ok]
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
                "[green]yes[/]" if row["ready"] else "[red]no[/]",
                str(row["pid"] or "-"),
                f"{row['seconds']:.0f} s",
                str(row["log"]),
            )
            for row in rows
        ],
    )
    return all(row["ready"] for row in rows)
