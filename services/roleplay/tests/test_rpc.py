"""Previews and model checks over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from duologue.contracts.v1 import dialogue_pb2, events_pb2, roleplay_pb2_grpc
from duologue.contracts.v1 import roleplay_pb2 as pb
from duologue.models import ChatModel, DecisionModel, Endpoint, ModelServer
from duologue.store import ArtifactStore, WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.rpc import RoleplayRpc
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.settings import ModelSettings
from duologue_roleplay.worker import PlayDialogue
from tests.support.desk import DESK, requested
from tests.support.desk_models import deciding, obedient
from tests.support.eventually import eventually
from tests.support.grpc_server import serving
from tests.support.model_server import Answered, Held, ScriptedModelServer

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


@pytest.fixture
async def service(server: ScriptedModelServer, tmp_path: Path) -> AsyncIterator[roleplay_pb2_grpc.RoleplayServiceStub]:
    artifacts = ArtifactStore(str(tmp_path / "artifacts"))
    WorkflowStore(artifacts).put(DESK)
    async with ModelServer(server.endpoint(patience_seconds=0)) as models:
        chat = ChatModel(models)
        self_talk = SelfTalk(chat, chat, DecisionModel(models))
        adapters = Adapters(models, artifacts)
        play = PlayDialogue(self_talk, WorkflowStore(artifacts), adapters)
        settings = ModelSettings(
            client=server.endpoint(), agent=Endpoint(url=NOBODY, model="gone"), manager=server.endpoint()
        )
        register = roleplay_pb2_grpc.add_RoleplayServiceServicer_to_server
        async with (
            serving(register, RoleplayRpc(play, settings, adapters)) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            yield roleplay_pb2_grpc.RoleplayServiceStub(channel)


async def test_a_preview_streams_the_turns_and_then_the_dialogue(
    service: roleplay_pb2_grpc.RoleplayServiceStub,
) -> None:
    responses = [response async for response in service.PreviewDialogue(pb.PreviewDialogueRequest(request=requested()))]
    turns = [response.turn for response in responses[:-1]]
    assert [turn.node for turn in turns] == ["greet", "greet", "look_up", "tell", "tell", "bye"]
    assert list(responses[-1].dialogue.turns) == turns
    assert responses[-1].dialogue.end_reason == dialogue_pb2.END_REASON_COMPLETED


async def test_a_preview_that_nobody_listens_to_any_more_asks_no_more_models(
    service: roleplay_pb2_grpc.RoleplayServiceStub, server: ScriptedModelServer
) -> None:
    call = service.PreviewDialogue(pb.PreviewDialogueRequest(request=requested()))
    await call.read()
    release = asyncio.Event()
    server.faults = [Held(release)] * 10
    asked = len(server.requests)
    call.cancel()

    async def playing() -> bool:
        return not [task for task in asyncio.all_tasks() if "PlayDialogue.play" in repr(task.get_coro())]

    await eventually(playing, "the preview was given up")
    release.set()
    assert len(server.requests) <= asked + 1


@pytest.mark.parametrize(
    ("request_", "code", "details"),
    [
        (requested(intention_id="nonsense"), grpc.StatusCode.INVALID_ARGUMENT, 'no intention "nonsense"'),
        (
            requested(persona=dialogue_pb2.Persona(id="nobody")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "persona 'nobody'",
        ),
        (requested(workflow=dialogue_pb2.WorkflowRef()), grpc.StatusCode.INVALID_ARGUMENT, "workflow.id is ''"),
    ],
)
async def test_a_preview_of_what_can_not_be_played_says_why(
    service: roleplay_pb2_grpc.RoleplayServiceStub,
    request_: events_pb2.DialogueRequested,
    code: grpc.StatusCode,
    details: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.PreviewDialogue(pb.PreviewDialogueRequest(request=request_)).read()
    assert caught.value.code() is code
    assert details in (caught.value.details() or "")


async def test_a_preview_on_a_busy_model_server_may_be_asked_for_again(
    service: roleplay_pb2_grpc.RoleplayServiceStub, server: ScriptedModelServer
) -> None:
    server.faults = [Answered(503, "no room")]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.PreviewDialogue(pb.PreviewDialogueRequest(request=requested())).read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "no room" in (caught.value.details() or "")


async def test_a_preview_s_deadline_ends_what_is_asked_for_it(
    service: roleplay_pb2_grpc.RoleplayServiceStub, server: ScriptedModelServer
) -> None:
    release = asyncio.Event()
    server.faults = [Held(release)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.PreviewDialogue(pb.PreviewDialogueRequest(request=requested()), timeout=0.5).read()
    # Both sides watch the clock, and either may be the first to say so.
    assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    release.set()
    async for _ in service.PreviewDialogue(pb.PreviewDialogueRequest(request=requested())):
        pass
    assert [request.body for request in server.requests].count(server.requests[0].body) == 2


async def test_every_model_server_is_checked_and_one_that_is_down_is_named(
    service: roleplay_pb2_grpc.RoleplayServiceStub, server: ScriptedModelServer
) -> None:
    response = await service.CheckModels(pb.CheckModelsRequest())
    client, agent, manager = response.models
    assert [(status.part, status.ok) for status in response.models] == [
        ("client", True),
        ("agent", False),
        ("manager", True),
    ]
    assert (client.url, client.model, client.problem) == (server.url, "scripted", "")
    assert (agent.url, agent.model) == (NOBODY, "gone")
    assert "models.agent.url" in agent.problem
    assert manager.seconds > 0
