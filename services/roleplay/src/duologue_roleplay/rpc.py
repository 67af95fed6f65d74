"""Questions to the role-play service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from duologue.contracts.convert import dialogue_to_proto, turn_to_proto
from duologue.contracts.limits import check_limits
from duologue.contracts.v1 import roleplay_pb2 as pb
from duologue.contracts.v1 import roleplay_pb2_grpc
from duologue.core.dialogue import Turn
from duologue.models.check import check_chat, check_decisions
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.settings import ModelSettings
from duologue_roleplay.worker import PlayDialogue


class RoleplayRpc(roleplay_pb2_grpc.RoleplayServiceServicer):
    """See protos/duologue/v1/roleplay.proto."""

    def __init__(self, play: PlayDialogue, models: ModelSettings, adapters: Adapters) -> None:
        self._play = play
        self._models = models
        self._adapters = adapters

    async def PreviewDialogue(
        self, request: pb.PreviewDialogueRequest, context: Any
    ) -> AsyncIterator[pb.PreviewDialogueResponse]:
        check_limits(request.request)
        turns: asyncio.Queue[Turn | None] = asyncio.Queue()
        left = context.time_remaining()
        deadline = None if left is None else asyncio.get_running_loop().time() + left
        playing = asyncio.create_task(self._play.play(request.request, turns.put, deadline))
        playing.add_done_callback(lambda _: turns.put_nowait(None))
        try:
            while (turn := await turns.get()) is not None:
                yield pb.PreviewDialogueResponse(turn=turn_to_proto(turn))
            yield pb.PreviewDialogueResponse(dialogue=dialogue_to_proto(await playing))
        finally:
            playing.cancel()  # the caller hung up: stop asking models

    async def CheckModels(self, request: pb.CheckModelsRequest, context: Any) -> pb.CheckModelsResponse:
        check_limits(request)
        checked = await asyncio.gather(
            check_chat("client", self._models.client),
            check_chat("agent", self._models.agent),
            check_decisions("manager", self._models.manager),
            *(self._adapters.check(adapter) for adapter in request.adapters),
        )
        return pb.CheckModelsResponse(
            models=[
                pb.ModelStatus(
                    part=check.part,
                    url=check.url,
                    model=check.model,
                    ok=not check.problem,
                    problem=check.problem,
                    seconds=check.seconds,
                    found=check.found,
                )
                for checks in checked
                for check in checks
            ]
        )
