"""`duologue adapter`: list, show, promote and roll back."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.connection import campaign_service
from duologue.cli.output import AsJson, console, literal, minute, number, print_json, print_table, printable
from duologue.cli.report import print_evaluation
from duologue.contracts.v1 import campaign_pb2 as pb

app = typer.Typer(
    help="Adapters: fine-tuned agents, released by the gate or by you.",
    no_args_is_help=True,
    epilog="Examples: duologue adapter list; duologue adapter promote quickstart-r1-0b0e7a52; "
    "duologue adapter rollback quickstart",
)
Name = Annotated[str, typer.Argument(help="Id of an adapter, or the beginning of one.")]


@app.command("list")
def list_adapters(
    campaign: Annotated[str, typer.Option(help="Of one campaign, by id or name.")] = "", as_json: AsJson = False
) -> None:
    """All adapters, newest first.

    Example: duologue adapter list --campaign quickstart
    """
    with campaign_service() as service:
        adapters = service.ListAdapters(pb.ListAdaptersRequest(campaign=campaign)).adapters
    if as_json:
        print_json({"adapters": list(adapters)})
        return
    print_table(
        "Adapters",
        ("id", "state", "loss", "created", "why"),
        [
            (
                adapter.ref.id,
                adapter.state,
                number(adapter.training.last_loss if adapter.training.steps else None),
                minute(adapter.created_at),
                adapter.evaluation.reason or adapter.training.error,
            )
            for adapter in adapters
        ],
    )


@app.command("show")
def show(adapter: Name, as_json: AsJson = False) -> None:
    """One adapter: where it comes from, how it was trained, what the gate saw.

    Example: duologue adapter show quickstart-r1
    """
    with campaign_service() as service:
        found = service.GetAdapter(pb.GetAdapterRequest(adapter=adapter)).adapter
    if as_json:
        print_json(found)
        return
    console.print(f"[bold]{literal(found.ref.id)}[/]: {found.state}, agent {literal(found.agent)}, round {found.round}")
    console.print(f"  served as {printable(found.ref.served_model) or '-'}", markup=False, soft_wrap=True)
    training = found.training
    console.print(
        f"  files in {printable(training.artifact.uri) or '-'}, fingerprint {found.ref.fingerprint.sha256[:12] or '-'}",
        markup=False,
    )
    console.print(
        f"  {training.examples} examples, {training.steps} steps, loss {number(training.first_loss)} to "
        f"{number(training.last_loss)}, {training.seconds:.0f} s; datasets {', '.join(found.dataset_ids)}",
        markup=False,
    )
    if training.error:
        console.print(f"  failed: {printable(training.error)}", markup=False)
    if found.HasField("evaluation"):
        print_evaluation(found.evaluation)


@app.command("promote")
def promote(adapter: Name) -> None:
    """Let an adapter answer from now on, whatever the gate said.

    Example: duologue adapter promote quickstart-r1
    """
    with campaign_service() as service:
        found = service.PromoteAdapter(pb.PromoteAdapterRequest(adapter=adapter)).adapter
    console.print(printable(f"{found.agent} answers with {found.ref.id}"), markup=False)


@app.command("rollback")
def rollback(agent: Annotated[str, typer.Argument(help="The agent: the name of its campaigns.")]) -> None:
    """Go back to what answered before the newest release.

    Example: duologue adapter rollback quickstart
    """
    with campaign_service() as service:
        found = service.RollbackAdapter(pb.RollbackAdapterRequest(agent=agent)).adapter
    console.print(printable(f"{agent} answers with {found.ref.id or 'the base model'}"), markup=False)
