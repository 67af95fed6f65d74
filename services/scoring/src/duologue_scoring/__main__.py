"""The scoring service: dialogues in, dialogues with scores out."""

from __future__ import annotations

import asyncio
from operator import attrgetter

from duologue.contracts.topics import DIALOGUE_GENERATED
from duologue.contracts.v1 import events_pb2, scoring_pb2, scoring_pb2_grpc
from duologue.models import DecisionModel, Gates, ModelServer
from duologue.runtime import Runtime, load_settings
from duologue.store import ArtifactStore, WorkflowStore
from duologue_scoring.rpc import ScoringRpc
from duologue_scoring.scorer import Scorer
from duologue_scoring.settings import Settings
from duologue_scoring.worker import ScoreDialogue


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("scoring", settings) as runtime:
        artifacts = await runtime.open(ArtifactStore(settings.artifacts.url, settings.artifacts.s3.options))
        workflows = WorkflowStore(artifacts)
        judge = DecisionModel(await runtime.open(ModelServer(settings.judge, Gates(are_told=True))))
        scorer = Scorer(judge)

        runtime.serve(
            scoring_pb2_grpc.add_ScoringServiceServicer_to_server,
            ScoringRpc(scorer, workflows),
            scoring_pb2.DESCRIPTOR.services_by_name["ScoringService"],
        )
        runtime.consume(
            DIALOGUE_GENERATED,
            events_pb2.DialogueGenerated,
            ScoreDialogue(scorer, workflows).handle,
            concurrency=settings.concurrency,
            campaign_of=attrgetter("dialogue.campaign_id"),
        )
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
