"""`duologue adapter`: list, show, promote (for a share first, if one likes) and roll back."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli.connection import campaign_service
from duologue.cli.output import AsJson, console, literal, minute, number, print_json, print_table, printable
from duologue.cli.report import print_canary, print_evaluation
from duologue.contracts.v1 import campaign_pb2 as pb

app = typer.Typer(
    help="Adapters: fine-tuned agents, released by the gate or by you.",
    no_args_is_help=True,
    epilog="Examples: duologue adapter list; duologue adapter promote quickstart-r1-0b0e7a52 --canary 0.1; "
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
                _state(adapter),
                number(adapter.training.last_loss if adapter.training.steps else None),
                minute(adapter.created_at),
                adapter.evaluation.reason or adapter.training.error,
            )
            for adapter in adapters
        ],
    )


@app.command("show")
def show(adapter: Name, as_json: AsJson = False) -> None:
    """One adapter: where it comes from, how it was trained, what the gate saw, how it does as a canary.

    Example: duologue adapter show quickstart-r1
    """
    with campaign_service() as service:
        found = service.GetAdapter(pb.GetAdapterRequest(adapter=adapter)).adapter
    if as_json:
        print_json(found)
        return
    console.print(
        f"[bold]{literal(found.ref.id)}[/]: {_state(found)}, agent {literal(found.agent)}, round {found.round}"
    )
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
    if found.HasField("canary"):
        print_canary(found)


@app.command("promote")
def promote(
    adapter: Name,
    canary: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Let it have only this share of the agent's training dialogues, above 0 and below 1, and compare.",
        ),
    ] = None,
) -> None:
    """Let an adapter answer from now on, whatever the gate said; or with --canary for a share, to see how it does.

    A canary ends with its promotion, with `adapter rollback`, or when another adapter is released. Evaluation dialogues
    are not touched by it.

    Example: duologue adapter promote quickstart-r1 --canary 0.1
    """
    if canary is not None and not 0 < canary < 1:
        raise typer.BadParameter(f"{canary:g} is no share above 0 and below 1", param_hint="--canary")
    with campaign_service() as service:
        found = service.PromoteAdapter(pb.PromoteAdapterRequest(adapter=adapter, canary=canary or 0.0)).adapter
    if canary:
        told = (
            f"{found.ref.id} has {found.canary.share:.3g} of the training dialogues of {found.agent}, "
            f"{found.canary.current_adapter_id or 'the base model'} the others"
        )
    else:
        told = f"{found.agent} answers with {found.ref.id}"
    console.print(printable(told), markup=False)


@app.command("rollback")
def rollback(agent: Annotated[str, typer.Argument(help="The agent: the name of its campaigns.")]) -> None:
    """End the agent's canary; without one, go back to what answered before the newest release.

    Example: duologue adapter rollback quickstart
    """
    with campaign_service() as service:
        response = service.RollbackAdapter(pb.RollbackAdapterRequest(agent=agent))
    now = response.adapter.ref.id or "the base model"
    ended = response.ended_canary
    told = (
        f"ended the canary {ended}; {agent} still answers with {now}" if ended else f"{agent} answers with {now} again"
    )
    console.print(printable(told), markup=False)


def is_canary(adapter: pb.Adapter) -> bool:
    return adapter.HasField("canary") and not adapter.canary.ended_at


def _state(adapter: pb.Adapter) -> str:
    return f"{adapter.state}, canary {adapter.canary.share:.3g}" if is_canary(adapter) else adapter.state
