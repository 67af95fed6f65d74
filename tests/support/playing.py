"""The role-play engine on an embedded bus: dialogues at the desk, of which each is another and always the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from duologue.bus import RetryPolicy, Worker
from duologue.bus.codec import decode, encode
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_REQUESTED
from duologue.contracts.v1 import events_pb2
from duologue.core.dialogue import Split, dialogue_id
from duologue.models import ChatModel, DecisionModel, Endpoint, Gates, ModelServer
from duologue.runtime.runtime import record_handler
from duologue.store import ArtifactStore, WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.worker import PlayDialogue
from tests.support.desk import CAMPAIGN_ID, DESK, requested
from tests.support.desk_models import is_agent, obedient
from tests.support.eventually import eventually
from tests.support.model_server import ModelRequest, Said

GROUP = "roleplay"
RETRY = DIALOGUE_REQUESTED.retry(GROUP)
Texts = list[tuple[int, str]]


def distinct(request: ModelRequest) -> Said:
    """Models whose every utterance depends on all that was said before, and on the seed."""
    said = obedient(request)
    if is_agent(request):
        return said
    heard = json.dumps([request.body["messages"], request.body["seed"]])
    return replace(said, text=f"{said.text} {hashlib.blake2b(heard.encode(), digest_size=4).hexdigest()}.")


class Playing:
    """A role-play worker in this process."""

    def __init__(self, bus: EmbeddedBus, worker: Worker, models: Mapping[str, ModelServer]) -> None:
        self.bus = bus
        self.models = models
        self.stopping = asyncio.Event()
        self.drain_seconds = 5.0
        self._worker = worker

    async def request(self, count: int) -> None:
        """So many dialogues, in two campaigns."""
        campaigns = (CAMPAIGN_ID, CAMPAIGN_ID.replace("0b0e", "1c1f"))
        asked = [
            requested(
                dialogue_id=dialogue_id(campaigns[index % 2], 1, Split.TRAINING, index),
                campaign_id=campaigns[index % 2],
                index=index,
                seed=index,
                intention_id=("late", "lost")[index % 3 == 0],
            )
            for index in range(count)
        ]
        await self.bus.publish([encode(DIALOGUE_REQUESTED, one, "test") for one in asked])

    async def run(self) -> None:
        await self._worker.run(self.stopping, self.drain_seconds)

    async def finished(self, count: int, seconds: float = 120.0) -> None:
        async def claim() -> bool:
            return len(await self.dialogues()) >= count

        await eventually(claim, f"{count} dialogues are finished", seconds)

    async def dialogues(self) -> dict[str, Texts]:
        """What was said in each; fails where one came twice."""
        found: dict[str, Texts] = {}
        counts: Counter[str] = Counter()
        async for delivery in self.bus.read(DIALOGUE_GENERATED.name):
            dialogue = decode(events_pb2.DialogueGenerated, delivery.record).dialogue
            counts[dialogue.id] += 1
            found[dialogue.id] = [(int(turn.role), turn.text) for turn in dialogue.turns]
        assert not counts or max(counts.values()) == 1, counts
        return found

    async def put_off(self) -> int:
        """How often a dialogue was."""
        return len([delivery async for delivery in self.bus.read(RETRY)])


@asynccontextmanager
async def playing(
    folder: Path, endpoint: Endpoint, *, concurrency: int = 16, lease_seconds: float = 10.0
) -> AsyncIterator[Playing]:
    """Its bus and its artifacts lie in `folder`; what is there from an earlier one goes on."""
    async with AsyncExitStack() as stack:
        bus = await EmbeddedBus.open(folder / "bus.db", lease_seconds=lease_seconds)
        stack.push_async_callback(bus.close)
        artifacts = ArtifactStore(str(folder / "artifacts"))
        workflows = WorkflowStore(artifacts)
        workflows.put(DESK)
        gates = Gates()
        models = {
            part: await stack.enter_async_context(ModelServer(endpoint, gates))
            for part in ("client", "agent", "manager")
        }
        self_talk = SelfTalk(ChatModel(models["client"]), ChatModel(models["agent"]), DecisionModel(models["manager"]))
        play = PlayDialogue(self_talk, workflows, Adapters(models["agent"], artifacts))
        handle = record_handler(DIALOGUE_REQUESTED, events_pb2.DialogueRequested, play.handle)
        retry = RetryPolicy(first=0.05, longest=0.5, deadline=600)
        yield Playing(bus, Worker(bus, DIALOGUE_REQUESTED, GROUP, handle, concurrency=concurrency, retry=retry), models)


@asynccontextmanager
async def working(engine: Playing) -> AsyncIterator[None]:
    """The worker works as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.run())
        yield
        engine.stopping.set()
