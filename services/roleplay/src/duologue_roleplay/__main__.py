"""The role-play service: requests for dialogues in, dialogues out."""

from __future__ import annotations

import asyncio
from operator import attrgetter

from duologue.contracts.topics import ADAPTER_RELEASED, DIALOGUE_REQUESTED
from duologue.contracts.v1 import events_pb2, roleplay_pb2, roleplay_pb2_grpc
from duologue.models import ChatModel, DecisionModel, Gates, ModelServer
from duologue.runtime import Runtime, load_settings
from duologue.store import ArtifactStore, WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.rpc import RoleplayRpc
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.settings import Settings
from duologue_roleplay.worker import PlayDialogue


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("roleplay", settings) as runtime:
        artifacts = await runtime.open(ArtifactStore(settings.artifacts.url, settings.artifacts.s3.options))
        gates = Gates(are_told=True)
        client = await runtime.open(ModelServer(settings.models.client, gates))
        agent = await runtime.open(ModelServer(settings.models.agent, gates))
        manager = await runtime.open(ModelServer(settings.models.manager, gates))
        adapters = Adapters(agent, artifacts)
        self_talk = SelfTalk(ChatModel(client), ChatModel(agent), DecisionModel(manager), speculate=settings.speculate)
        play = PlayDialogue(self_talk, WorkflowStore(artifacts), adapters)

        runtime.serve(
            roleplay_pb2_grpc.add_RoleplayServiceServicer_to_server,
            RoleplayRpc(play, settings.models, adapters),
            roleplay_pb2.DESCRIPTOR.services_by_name["RoleplayService"],
        )
        runtime.consume(
            DIALOGUE_REQUESTED,
            events_pb2.DialogueRequested,
            play.handle,
            concurrency=settings.concurrency,
            campaign_of=attrgetter("campaign_id"),
        )
        runtime.consume(ADAPTER_RELEASED, events_pb2.AdapterReleased, adapters.released, concurrency=1)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
