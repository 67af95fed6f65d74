"""The filtering service: scored dialogues in, decisions with reasons and sealed datasets out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from duologue.contracts.topics import DIALOGUE_SCORED
from duologue.contracts.v1 import events_pb2, filtering_pb2, filtering_pb2_grpc
from duologue.runtime import Runtime, load_settings
from duologue.store import ArtifactStore, Database, Leader, Outbox, WorkflowStore
from duologue_filtering.rpc import FilteringRpc
from duologue_filtering.sealing import Sealer
from duologue_filtering.settings import Settings
from duologue_filtering.tables import OUTBOX
from duologue_filtering.worker import CollectCandidate


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("filtering", settings) as runtime:
        database = Database(settings.database.url, settings.database.options)
        runtime.closing(database.close)
        await database.migrate(Path(__file__).parent / "migrations")
        artifacts = await runtime.open(ArtifactStore(settings.artifacts.url, settings.artifacts.s3.options))
        outbox = Outbox(OUTBOX, database, runtime.bus)
        sealer = Sealer(database, outbox, artifacts, WorkflowStore(artifacts))

        runtime.serve(
            filtering_pb2_grpc.add_FilteringServiceServicer_to_server,
            FilteringRpc(database, sealer),
            filtering_pb2.DESCRIPTOR.services_by_name["FilteringService"],
        )
        runtime.consume(DIALOGUE_SCORED, events_pb2.DialogueScored, CollectCandidate(database, sealer).handle)
        runtime.run_in_background(Leader(database, "filtering", outbox.relay, sealer.run).run)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
