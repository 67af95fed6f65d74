"""`duologue campaign`: create, list, show, watch, pause, resume, cancel."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.connection import campaign_service
from duologue.cli.files import read_campaign
from duologue.cli.output import AsJson, console, enum_name, print_json, print_table
from duologue.cli.report import print_campaign
from duologue.cli.watch import watch_campaign
from duologue.contracts.v1 import campaign_pb2 as pb

app = typer.Typer(
    help="Campaigns: rounds of self-talk, filtering, training and evaluation.",
    no_args_is_help=True,
    epilog="Examples: duologue campaign list; duologue campaign show quickstart; duologue campaign pause 0b0e7a52",
)
Name = Annotated[str, typer.Argument(help="Id, the beginning of one, or a name: then the newest of that name.")]


def create_campaign(spec: Path) -> pb.Campaign:
    """Check a campaign file and all that it names, and create the campaign."""
    _, text, files = read_campaign(spec)
    request = pb.CreateCampaignRequest(
        spec=pb.SpecFile(name=str(spec), text=text),
        files=[pb.SpecFile(name=name, text=content) for name, content in files.items()],
        request_id=str(uuid.uuid4()),
    )
    with campaign_service() as service:
        return service.CreateCampaign(request).campaign


@app.command("create")
def create(spec: Annotated[Path, typer.Argument(help="The campaign file.")], as_json: AsJson = False) -> None:
    """Create a campaign and return at once. Example: duologue campaign create examples/campaigns/larger.yaml"""
    campaign = create_campaign(spec)
    if as_json:
        print_json(campaign)
    else:
        console.print(f"Created {campaign.name} {campaign.id}")
        console.print(f"Watch it: duologue campaign watch {campaign.id[:8]}")


@app.command("list")
def list_campaigns(as_json: AsJson = False) -> None:
    """All campaigns, newest first."""
    campaigns: list[pb.Campaign] = []
    token = ""
    with campaign_service() as service:
        while True:
            page = service.ListCampaigns(pb.ListCampaignsRequest(page_token=token))
            campaigns.extend(page.campaigns)
            token = page.next_page_token
            if not token:
                break
    if as_json:
        print_json({"campaigns": campaigns})
        return
    print_table(
        "Campaigns",
        ("id", "name", "state", "round", "phase", "kept", "created"),
        [
            (
                campaign.id[:8],
                campaign.name,
                enum_name(campaign, "state"),
                str(campaign.rounds),
                enum_name(campaign.history[-1], "phase"),
                str(sum(round_.kept for round_ in campaign.history)),
                campaign.created_at,
            )
            for campaign in campaigns
        ],
    )


@app.command("show")
def show(campaign: Name, as_json: AsJson = False) -> None:
    """What came of a campaign: its rounds, scores, drops, evaluations and costs."""
    with campaign_service() as service:
        found = service.GetCampaign(pb.GetCampaignRequest(campaign=campaign)).campaign
    if as_json:
        print_json(found)
    else:
        print_campaign(found)


@app.command("watch")
def watch(campaign: Name) -> None:
    """Watch a campaign to its end; Ctrl-C leaves it running."""
    with campaign_service() as service:
        raise typer.Exit(watch_campaign(service, campaign))


@app.command("pause")
def pause(campaign: Name) -> None:
    """Ask for no more dialogues; those that are out come back."""
    with campaign_service() as service:
        _say(service.PauseCampaign(pb.PauseCampaignRequest(campaign=campaign)).campaign)


@app.command("resume")
def resume(campaign: Name) -> None:
    """Go on where the campaign was paused."""
    with campaign_service() as service:
        _say(service.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign)).campaign)


@app.command("cancel")
def cancel(campaign: Name) -> None:
    """End a campaign for good. What it made stays."""
    with campaign_service() as service:
        _say(service.CancelCampaign(pb.CancelCampaignRequest(campaign=campaign)).campaign)


def _say(campaign: pb.Campaign) -> None:
    console.print(f"{campaign.name} {campaign.id[:8]} is {enum_name(campaign, 'state')}")
