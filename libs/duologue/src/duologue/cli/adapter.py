"""`duologue adapter`: list, show, promote and roll back."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.connection import campaign_service
from duologue.cli.output import AsJson, console, number, print_json, print_table
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
    """All adapters, newest first."""
    with campaign_service() as service:
        adapters = service.ListAdapters(pb.ListAdaptersRequest(campaign=campaign)).adapters
    if as_json:
        print_json({"adapters": list(adapters)})
        return
    print_table(
        "Adapters",
        ("id", "agent", "round", "state", "examples", "loss", "why", "created"),
        [
            (
                adapter.ref.id,
                adapter.agent,
                str(adapter.round),
                adapter.state,
                str(adapter.training.examples),
                f"{number(adapter.training.first_loss)} to {number(adapter.training.last_loss)}",
                adapter.evaluation.reason or adapter.training.error,
                adapter.created_at,
            )
            for adapter in adapters
        ],
    )


@app.command("show")
def show(adapter: Name, as_json: AsJson = False) -> None:
    """One adapter: where it comes from, how it was trained, what the gate saw."""
    with campaign_service() as service:
        found = service.GetAdapter(pb.GetAdapterRequest(adapter=adapter)).adapter
    if as_json:
        print_json(found)
        return
    console.print(f"[bold]{found.ref.id}[/]: {found.state}, agent {found.agent}, round {found.round}")
    console.print(f"  served as {found.ref.served_model or '-'}")
    training = found.training
    console.print(f"  files in {training.artifact.uri or '-'}, fingerprint {found.ref.fingerprint.sha256[:12] or '-'}")
    console.print(
        f"  {training.examples} examples, {training.steps} steps, loss {number(training.first_loss)} to "
        f"{number(training.last_loss)}, {training.seconds:.0f} s; datasets {', '.join(found.dataset_ids)}"
    )
    if training.error:
        console.print(f"  failed: {training.error}", markup=False)
    if found.HasField("evaluation"):
        print_evaluation(found.evaluation)


@app.command("promote")
def promote(adapter: Name) -> None:
    """Let an adapter answer from now on, whatever the gate said."""
    with campaign_service() as service:
        found = service.PromoteAdapter(pb.PromoteAdapterRequest(adapter=adapter)).adapter
    console.print(f"{found.agent} answers with {found.ref.id}")


@app.command("rollback")
def rollback(agent: Annotated[str, typer.Argument(help="The agent: the name of its campaigns.")]) -> None:
    """Go back to what answered before the newest release."""
    with campaign_service() as service:
        found = service.RollbackAdapter(pb.RollbackAdapterRequest(agent=agent)).adapter
    console.print(f"{agent} answers with {found.ref.id or 'the base model'}")
