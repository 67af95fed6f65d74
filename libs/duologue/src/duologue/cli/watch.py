"""Watching a campaign: a live view on a terminal, a line per event elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from duologue.cli.connection import unreachable
from duologue.cli.invocation import command
from duologue.cli.output import complain, console, enum_name, literal, number
from duologue.cli.report import print_campaign, state_text
from duologue.cli.transcript import latest_lines
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc

_INTERRUPTED = 130
_LINE_SECONDS = 15.0
_LATEST_TURNS = 12
# A service that is killed is back within seconds.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 1.0


def watch_campaign(service: campaign_pb2_grpc.CampaignServiceStub, name: str) -> int:
    """Watch until the campaign is over; the exit status: 0 completed, 1 failed or cancelled, 130 left with Ctrl-C."""
    campaign = service.GetCampaign(pb.GetCampaignRequest(campaign=name)).campaign
    try:
        last = _watch(service, campaign.id)
    except KeyboardInterrupt:
        back = command(f"campaign watch {campaign.id[:8]}")
        console.print(f"\nThe campaign goes on. Come back: [bold]{literal(back)}[/]", soft_wrap=True)
        return _INTERRUPTED
    print_campaign(last)
    return 0 if last.state == pb.CAMPAIGN_STATE_COMPLETED else 1


def _watch(service: campaign_pb2_grpc.CampaignServiceStub, campaign_id: str) -> pb.Campaign:
    responses = _responses(service, campaign_id)
    if not console.is_terminal:
        return _watch_lines(responses)
    latest: list[RenderableType] = []
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        for response in responses:
            if response.HasField("latest"):
                latest = [*latest_lines(response.latest, _LATEST_TURNS)]
            live.update(_view(response, latest))
            last = response.campaign
    return last


def _responses(service: campaign_pb2_grpc.CampaignServiceStub, campaign_id: str) -> Iterator[pb.WatchCampaignResponse]:
    """What the service tells; a service that is started again is asked again."""
    lost_at: float | None = None
    details = ""
    while True:
        try:
            for response in service.WatchCampaign(pb.WatchCampaignRequest(campaign=campaign_id)):
                lost_at = None
                yield response
                if response.campaign.finished_at:
                    return
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
            details = str(error.details())
        if lost_at is None:
            lost_at = time.monotonic()
            complain("The campaign service does not answer, waiting.")
        elif time.monotonic() - lost_at >= _PATIENCE_SECONDS:
            raise unreachable(details)
        time.sleep(_PAUSE_SECONDS)


def _watch_lines(responses: Iterator[pb.WatchCampaignResponse]) -> pb.Campaign:
    """A line for every dialogue that came, every phase that began, and now and then the progress."""
    phase, reason, told_at = "", "", 0.0
    for response in responses:
        current = response.campaign.history[-1]
        if response.HasField("latest"):
            for line in latest_lines(response.latest, _LATEST_TURNS):
                console.print(line)
        name = f"round {current.number}: {enum_name(current, 'phase')}"
        if name != phase or time.monotonic() - told_at > _LINE_SECONDS:
            console.print(f"{name} {_progress_text(response)}", style="bold")
            phase, told_at = name, time.monotonic()
        if response.campaign.reason != reason:
            reason = response.campaign.reason
            console.print(state_text(response.campaign), soft_wrap=True)
        last = response.campaign
    return last


def _view(response: pb.WatchCampaignResponse, latest: list[RenderableType]) -> RenderableType:
    campaign = response.campaign
    current = campaign.history[-1]
    grid = Table.grid(padding=(0, 2))
    grid.add_row(f"[bold]{literal(campaign.name)}[/] {campaign.id[:8]}", state_text(campaign))
    grid.add_row(f"round {current.number}, {enum_name(current, 'phase')}", _progress_text(response))
    done, total = _progress(response)
    if total:
        grid.add_row("", ProgressBar(total=total, completed=done, width=40))
    for round_ in campaign.history:
        if round_.means:
            grid.add_row(f"round {round_.number}", _round_line(round_))
    panels: list[RenderableType] = [grid]
    if latest:
        panels.append(Panel(Group(*latest), title="latest dialogue", title_align="left", border_style="dim"))
    return Group(*panels)


def _progress(response: pb.WatchCampaignResponse) -> tuple[float, float]:
    current = response.campaign.history[-1]
    if current.phase == pb.ROUND_PHASE_TRAINING:
        return response.training_progress, 1.0
    return float(current.scored), float(current.wanted)


def _progress_text(response: pb.WatchCampaignResponse) -> str:
    campaign = response.campaign
    current = campaign.history[-1]
    if current.phase == pb.ROUND_PHASE_TRAINING:
        if response.training_waits_for:
            return f"waits: {literal(response.training_waits_for)}"
        return f"{response.training_progress:.0%}, loss {number(response.training_loss)}"
    tokens = campaign.prompt_tokens + campaign.completion_tokens
    parts = [f"{current.scored} of {current.wanted} dialogues"] if current.wanted else []
    if current.lost:
        parts.append(f"{current.lost} lost")
    if current.phase == pb.ROUND_PHASE_GENERATING and "ended" in current.means:
        parts.append(f"{current.means['ended']:.0%} ended")
    if current.kept + current.dropped:
        parts.append(f"{current.kept / (current.kept + current.dropped):.0%} kept")
    if campaign.remaining_seconds:
        speed = (current.wanted - current.scored - current.lost) / campaign.remaining_seconds * 60
        parts.append(f"{speed:.0f} a minute, about {campaign.remaining_seconds:.0f} s left")
    parts.append(f"{tokens:,} tokens")
    return ", ".join(parts)


def _round_line(round_: pb.Round) -> str:
    names = ("subgoals_relative", "ended", "success", "character_agent")
    scores = ", ".join(f"{name} {number(round_.means[name])}" for name in names if name in round_.means)
    return f"kept {round_.kept}, dropped {round_.dropped}; {scores}" if round_.kept + round_.dropped else scores
