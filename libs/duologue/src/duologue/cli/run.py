"""`duologue run`: a campaign from its file to its end."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.campaign import all_campaigns, create_campaign
from duologue.cli.connection import campaign_service
from duologue.cli.files import read_campaign
from duologue.cli.invocation import command
from duologue.cli.output import console, printable
from duologue.cli.watch import watch_campaign
from duologue.contracts.v1 import campaign_pb2 as pb

_GOING_ON = (pb.CAMPAIGN_STATE_RUNNING, pb.CAMPAIGN_STATE_PAUSED)


def run(spec: Annotated[Path, typer.Argument(help="The campaign file.")]) -> None:
    """Create a campaign and watch it; one that is under way from the same files is watched instead.

    Ctrl-C leaves it running and says how to come back.

    Example: duologue run examples/campaigns/quickstart.yaml
    """
    campaign = _under_way(spec)
    if campaign is None:
        campaign = create_campaign(spec)
        console.print(f"Created {printable(campaign.name)} {campaign.id}", markup=False)
    else:
        console.print(f"Going on with {printable(campaign.name)} {campaign.id}", markup=False)
    with campaign_service() as service:
        if campaign.state == pb.CAMPAIGN_STATE_PAUSED:
            service.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign.id))
        status = watch_campaign(service, campaign.id)
    if status == 0:
        _print_next(campaign)
    raise typer.Exit(status)


def _under_way(spec: Path) -> pb.Campaign | None:
    parsed, _, _ = read_campaign(spec)
    with campaign_service() as service:
        for campaign in all_campaigns(service):
            if campaign.spec_version == parsed.version and campaign.state in _GOING_ON:
                return campaign
    return None


def _print_next(campaign: pb.Campaign) -> None:
    listing = command(f"dialogue list {shlex.quote(printable(campaign.name))} --decision kept")
    console.print(f"\nNext: {listing}", markup=False, soft_wrap=True)
    for words in ("dialogue show ID", "adapter list"):
        console.print(f"      {command(words)}", markup=False, soft_wrap=True)
    console.print(f"Stop the services: {command('down')}", markup=False, soft_wrap=True)
