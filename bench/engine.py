"""The role-play engine as the service stands it up: requests in, dialogues out, durable."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scenario
import structlog

from duologue.bus import Bus, Record, RetryPolicy, Worker, open_bus
from duologue.bus.codec import decode, encode
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_REQUESTED
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.models import ChatModel, DecisionModel, Endpoint, Gates, ModelServer
from duologue.models.connection import Connection, Reply
from duologue.runtime import collect_seldom
from duologue.store import ArtifactStore, WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.worker import PlayDialogue

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Played:
    """What one run made, and the wall time from the first request that was fetched to the last durable dialogue."""

    turns: int
    seconds: float

    @property
    def turns_per_second(self) -> float:
        return self.turns / self.seconds


class Engine:
    """A worker of the role-play service in this process. Open with `opened`."""

    def __init__(self, bus: Bus, play: PlayDialogue, workflow: dialogue_pb2.WorkflowRef) -> None:
        self._bus = bus
        self._play = play
        self._workflow = workflow

    async def run(self, dialogues: int, concurrency: int) -> Played:
        """Play `dialogues`, `concurrency` at once; checks that every one is on the bus, whole, when it is done."""
        requests = scenario.requests(dialogues, self._workflow)
        await self._bus.publish([encode(DIALOGUE_REQUESTED, request, "bench") for request in requests])
        stopping = asyncio.Event()
        left = dialogues

        async def handle(record: Record) -> Sequence[Record]:
            nonlocal left
            with structlog.contextvars.bound_contextvars(key=record.key, topic=DIALOGUE_REQUESTED.name):
                outputs = await self._play.handle(decode(events_pb2.DialogueRequested, record))
            left -= 1
            if not left:
                stopping.set()  # the worker then waits until what is in work is durable
            return outputs

        worker = Worker(self._bus, DIALOGUE_REQUESTED, "roleplay", handle, concurrency=concurrency, retry=RetryPolicy())
        started = time.perf_counter()
        await worker.run(stopping, _DRAIN_SECONDS)
        seconds = time.perf_counter() - started
        return await self._played({request.dialogue_id for request in requests}, seconds)

    async def _played(self, wanted: set[str], seconds: float) -> Played:
        turns = 0
        async for delivery in self._bus.read(DIALOGUE_GENERATED.name):
            if delivery.record.key not in wanted:
                continue
            wanted.discard(delivery.record.key)
            dialogue = decode(events_pb2.DialogueGenerated, delivery.record).dialogue
            roles = [turn.role for turn in dialogue.turns]
            assert dialogue.end_reason == dialogue_pb2.END_REASON_COMPLETED, dialogue
            turns += len(roles) - roles.count(dialogue_pb2.ROLE_TOOL)
        assert not wanted, f"{len(wanted)} dialogues are not on the bus"
        return Played(turns, seconds)


@asynccontextmanager
async def opened(
    url: str,
    folder: Path,
    *,
    speculate: bool = False,
    connections: int = 128,
    bodies: list[bytes] | None = None,
    seconds: list[float] | None = None,
) -> AsyncIterator[Engine]:
    """An engine whose three models are served at `url`, with its bus and its artifacts in `folder`.

    `bodies`: takes what is sent for utterances, in order. `seconds`: takes how long each answer was waited for.
    """
    async with AsyncExitStack() as stack:
        bus = await open_bus(f"sqlite:///{folder}/bus.db")
        stack.push_async_callback(bus.close)
        artifacts = ArtifactStore(str(folder / "artifacts"))
        endpoint = Endpoint(url=url, model="stub", connections=connections)
        gates = Gates()
        client, agent, manager = [await stack.enter_async_context(ModelServer(endpoint, gates)) for _ in range(3)]
        if bodies is not None:
            for server in (client, agent):
                _record_posts(server.replicas[0].connection, bodies)
        if seconds is not None:
            for server in (client, agent, manager):
                _time_posts(server.replicas[0].connection, seconds)
        workflows = WorkflowStore(artifacts)
        self_talk = SelfTalk(ChatModel(client), ChatModel(agent), DecisionModel(manager), speculate=speculate)
        play = PlayDialogue(self_talk, workflows, Adapters(agent, artifacts))
        collect_seldom()
        yield Engine(bus, play, workflows.put(scenario.workflow()))


async def generated(url: str, folder: Path) -> events_pb2.DialogueGenerated:
    """A dialogue as it goes to scoring; its workflow lies in the folder's artifacts."""
    async with opened(url, folder) as engine:
        await engine.run(1, 1)
    bus = await open_bus(f"sqlite:///{folder}/bus.db")
    try:
        (delivery,) = [delivery async for delivery in bus.read(DIALOGUE_GENERATED.name)]
    finally:
        await bus.close()
    return decode(events_pb2.DialogueGenerated, delivery.record)


async def chat_bodies(url: str, folder: Path) -> list[bytes]:
    """What the engine sends for the utterances of one dialogue, in order."""
    bodies: list[bytes] = []
    async with opened(url, folder, bodies=bodies) as engine:
        await engine.run(1, 1)
    assert len(bodies) == scenario.TURNS
    return bodies


def _record_posts(connection: Connection, bodies: list[bytes]) -> None:
    post = connection.post

    async def recording(path: str, body: Mapping[str, Any], shape: type = dict) -> Reply:
        bodies.append(json.dumps(body, separators=(",", ":")).encode())
        return await post(path, body, shape)

    connection.post = recording  # type: ignore[method-assign]


def _time_posts(connection: Connection, seconds: list[float]) -> None:
    post = connection.post

    async def timing(path: str, body: Mapping[str, Any], shape: type = dict) -> Reply:
        started = time.perf_counter()
        reply = await post(path, body, shape)
        seconds.append(time.perf_counter() - started)
        return reply

    connection.post = timing  # type: ignore[method-assign]
