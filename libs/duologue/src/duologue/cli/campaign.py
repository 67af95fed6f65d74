"""`duologue campaign`: create, list, show, watch, pause, resume, cancel."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.connection import campaign_service
from duologue.cli.files import read_campaign
from duologue.cli.invocation import command
from duologue.cli.output import AsJson, console, enum_name, minute, print_json, print_table, printable
from duologue.cli.report import print_campaign
from duologue.cli.watch import watch_campaign
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import campaign_pb2_grpc

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


def all_campaigns(service: campaign_pb2_grpc.CampaignServiceStub) -> Iterator[pb.Campaign]:
    """Newest first, page after page."""
    token = ""
    while True:
        page = service.ListCampaigns(pb.ListCampaignsRequest(page_token=token))
        yield from page.campaigns
        token = page.next_page_token
        if not token:
            return


@app.command("create")
def create(spec: Annotated[Path, typer.Argument(help="The campaign file.")], as_json: AsJson = False) -> None:
    """Create a campaign and return at once.

    Example: duologue campaign create examples/campaigns/larger.yaml
    """
    campaign = create_campaign(spec)
    if as_json:
        print_json(campaign)
    else:
        console.print(f"Created {printable(campaign.name)} {campaign.id}", markup=False)
        console.print(f"Watch it: {command(f'campaign watch {campaign.id[:8]}')}", markup=False, soft_wrap=True)


@app.command("list")
def list_campaigns(as_json: AsJson = False) -> None:
    """All campaigns, newest first.

    Example: duologue campaign list --json
    """
    with campaign_service() as service:
        campaigns = list(all_campaigns(service))
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
                minute(campaign.created_at),
            )
            for campaign in campaigns
        ],
    )


@app.command("show")
def show(campaign: Name, as_json: AsJson = False) -> None:
    """What came of a campaign: its rounds, scores, drops, evaluations and costs.

    Example: duologue campaign show quickstart
    """
    with campaign_service() as service:
        found = service.GetCampaign(pb.GetCampaignRequest(campaign=campaign)).campaign
    if as_json:
        print_json(found)
    else:
        print_campaign(found)


@app.command("watch")
def watch(campaign: Name) -> None:
    """Watch a campaign to its end; Ctrl-C leaves it running.

    Example: duologue campaign watch quickstart
    """
    with campaign_service() as service:
        raise typer.Exit(watch_campaign(service, campaign))


@app.command("pause")
def pause(campaign: Name) -> None:
    """Ask for no more dialogues; those that are out come back.

    Example: duologue campaign pause quickstart
    """
    with campaign_service() as service:
        _say(service.PauseCampaign(pb.PauseCampaignRequest(campaign=campaign)).campaign)


@app.command("resume")
def resume(campaign: Name) -> None:
    """Go on where the campaign was paused.

    Example: duologue campaign resume quickstart
    """
    with campaign_service() as service:
        _say(service.ResumeCampaign(pb.ResumeCampaignRequest(campaign=campaign)).campaign)


@app.command("cancel")
def cancel(campaign: Name) -> None:
    """End a campaign for good: dialogues that are out are dropped, and a training ends. What it made stays.

    Example: duologue campaign cancel quickstart
    """
    with campaign_service() as service:
        _say(service.CancelCampaign(pb.CancelCampaignRequest(campaign=campaign)).campaign)


def _say(campaign: pb.Campaign) -> None:
    console.print(f"{printable(campaign.name)} {campaign.id[:8]} is {enum_name(campaign, 'state')}", markup=False)
