"""A campaign as people read it."""

from __future__ import annotations

from rich.table import Table

from duologue.cli.costs import print_costs
from duologue.cli.output import console, enum_name, literal, number, print_table, printable
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.core.campaign import METRICS


def print_campaign(campaign: pb.Campaign) -> None:
    console.print(f"[bold]{literal(campaign.name)}[/] {campaign.id}: {state_text(campaign)}")
    console.print(f"spec {campaign.spec_version}, created {campaign.created_at}")
    for round_ in campaign.history:
        print_round(round_)
    print_costs(campaign)


def state_text(campaign: pb.Campaign) -> str:
    """Its state, and why."""
    reason = f", {literal(campaign.reason)}" if campaign.reason else ""
    return enum_name(campaign, "state") + reason


def print_round(round_: pb.Round) -> None:
    """Scores, drops and the gate of one round."""
    console.print(f"\n[bold]Round {round_.number}[/]: {enum_name(round_, 'phase')}" + _outcome(round_))
    if round_.means:
        grid = Table.grid(padding=(0, 2))
        for name in METRICS:
            if name in round_.means:
                grid.add_row(f"  {name}", number(round_.means[name]))
        grid.add_row("  diversity", number(round_.diversity) if round_.candidates else "-")
        console.print(grid)
    if round_.kept + round_.dropped:
        share = round_.kept / (round_.kept + round_.dropped)
        console.print(f"  kept {round_.kept} of {round_.kept + round_.dropped} ({share:.0%})" + _drops(round_))
    if round_.dataset_id and round_.kept:
        console.print(f"  dataset {printable(round_.dataset_id)}", markup=False)
    if round_.HasField("evaluation"):
        print_evaluation(round_.evaluation)


def print_evaluation(evaluation: pb.Evaluation) -> None:
    """The comparison on held-out dialogues, with confidence intervals, and the gate's verdict."""
    against = evaluation.current_adapter_id or "the base model"
    rows = [
        (
            f"  {item.metric}",
            _interval(item.current),
            _interval(item.candidate),
            _interval(item.gain, signed=True),
            str(item.pairs),
        )
        for item in evaluation.comparisons
    ]
    if rows:
        title = f"  {evaluation.adapter_id} against {against}, held out, {evaluation.confidence:.0%} intervals"
        print_table(title, ("  metric", "current", "candidate", "gain", "pairs"), rows)
    verdict = "[green]released[/]" if evaluation.released else "[yellow]refused[/]"
    console.print(f"  {verdict}: {literal(evaluation.reason)}")


def print_canary(adapter: pb.Adapter) -> None:
    """How an adapter does, or did, beside the current one in a share of the training dialogues."""
    canary = adapter.canary
    evaluation = canary.evaluation
    rows = [
        (
            f"  {item.metric}",
            _interval(item.current),
            _interval(item.candidate),
            _interval(item.gain, signed=True),
            f"{item.current_dialogues} and {item.candidate_dialogues}",
        )
        for item in evaluation.comparisons
    ]
    ended = f"to {canary.ended_at}: {canary.outcome}" if canary.ended_at else "until now"
    against = canary.current_adapter_id or "the base model"
    title = f"  canary {adapter.ref.id} with {canary.share:.3g} against {against}, {canary.began_at} {ended}"
    if rows:
        print_table(title, ("  metric", "current", "candidate", "gain", "dialogues"), rows)
    else:
        console.print(printable(title), markup=False)
    verdict = (
        "[green]the gate would release it[/]" if evaluation.released else "[yellow]the gate would not release it[/]"
    )
    console.print(f"  {verdict}: {literal(evaluation.reason)}")


def _outcome(round_: pb.Round) -> str:
    return f", {literal(round_.outcome)}" if round_.outcome and not round_.HasField("evaluation") else ""


def _drops(round_: pb.Round) -> str:
    if not round_.dropped_by:
        return ""
    return "; dropped by " + ", ".join(f"{literal(name)}: {count}" for name, count in sorted(round_.dropped_by.items()))


def _interval(interval: pb.Interval, *, signed: bool = False) -> str:
    form = "{:+.3f}" if signed else "{:.3f}"
    return f"{form.format(interval.value)} [{form.format(interval.low)}, {form.format(interval.high)}]"
