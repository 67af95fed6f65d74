"""The control plane: campaigns in, rounds of dialogues, datasets, adapters and releases out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from duologue.contracts.topics import DATASET_SEALED, DIALOGUE_FILTERED, DIALOGUE_SCORED, TRAINING_COMPLETED
from duologue.contracts.v1 import (
    campaign_pb2,
    campaign_pb2_grpc,
    events_pb2,
    filtering_pb2_grpc,
    training_pb2_grpc,
)
from duologue.runtime import Runtime, load_settings, open_channel
from duologue.store import ArtifactStore, Database, Leader, Outbox, WorkflowStore
from duologue_campaign.changes import Changes
from duologue_campaign.driver import Driver
from duologue_campaign.prices import Prices
from duologue_campaign.progress import TrainingProgress
from duologue_campaign.quota import Quota
from duologue_campaign.rpc import CampaignRpc
from duologue_campaign.settings import Settings
from duologue_campaign.specs import Specs
from duologue_campaign.spending import Spending
from duologue_campaign.standing import Standing
from duologue_campaign.state import StateMachine
from duologue_campaign.tables import OUTBOX
from duologue_campaign.tracking import Tracking
from duologue_campaign.worker import CampaignEvents


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("campaign", settings) as runtime:
        database = Database(settings.database.url, settings.database.options)
        runtime.closing(database.close)
        await database.migrate(Path(__file__).parent / "migrations")
        outbox = Outbox(OUTBOX, database, runtime.bus)
        artifacts = await runtime.open(ArtifactStore(settings.artifacts.url, settings.artifacts.s3.options))
        workflows = WorkflowStore(artifacts)
        filtering = await runtime.open(open_channel(settings.filtering.address, settings.grpc))
        trainings = [
            await runtime.open(open_channel(address, settings.grpc)) for address in settings.training.addresses
        ]
        specs, changes = Specs(), Changes()
        prices, quota = Prices(settings.prices), Quota(settings.quota)
        machine = StateMachine(outbox, specs, settings.base_model)
        events = CampaignEvents(database, machine, outbox, changes, Spending(prices))
        progress = TrainingProgress([training_pb2_grpc.TrainingServiceStub(channel) for channel in trainings])
        seals = filtering_pb2_grpc.FilteringServiceStub(filtering)
        standing = Standing(database, specs, prices)
        driver = Driver(database, machine, specs, outbox, changes, seals, progress, settings)
        tracking = Tracking(database, specs, prices, artifacts, settings.mlflow)

        runtime.serve(
            campaign_pb2_grpc.add_CampaignServiceServicer_to_server,
            CampaignRpc(database, machine, specs, outbox, changes, workflows, progress, prices, quota, tracking),
            campaign_pb2.DESCRIPTOR.services_by_name["CampaignService"],
        )
        runtime.consume(DIALOGUE_SCORED, events_pb2.DialogueScored, events.scored)
        runtime.consume(DIALOGUE_FILTERED, events_pb2.DialogueFiltered, events.filtered)
        runtime.consume(DATASET_SEALED, events_pb2.DatasetSealed, events.sealed)
        runtime.consume(TRAINING_COMPLETED, events_pb2.TrainingCompleted, events.trained)
        duties = (outbox.relay, driver.run, standing.report, *tracking.duties)
        runtime.run_in_background(Leader(database, "campaign", *duties).run)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
