"""Mutated messages on every topic: each is worked with, or is a dead letter that says why; nobody dies.

The campaign service's topics are in test_mutated_facts.py. `make test-faults` has ten thousand for every topic.
DUOLOGUE_TEST_MESSAGES says how many, DUOLOGUE_TEST_SEED makes it other ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

import duologue_filtering
from duologue.bus import Record
from duologue.bus.codec import decode, encode
from duologue.bus.embedded import EmbeddedBus
from duologue.contracts.topics import (
    ADAPTER_RELEASED,
    DATASET_SEALED,
    DIALOGUE_GENERATED,
    DIALOGUE_REQUESTED,
    DIALOGUE_SCORED,
    TRAINING_COMPLETED,
    TRAINING_REQUESTED,
)
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import Split, dialogue_id
from duologue.models import ChatModel, DecisionModel, ModelServer
from duologue.models.fingerprint import Fingerprint, Probe
from duologue.store import ArtifactStore, Database, Outbox, Term, WorkflowStore
from duologue_filtering.sealing import Sealer
from duologue_filtering.tables import OUTBOX, SealRow
from duologue_filtering.worker import CollectCandidate
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.worker import PlayDialogue
from duologue_scoring.scorer import Scorer
from duologue_scoring.worker import ScoreDialogue
from duologue_training.local import ChildTrainer
from duologue_training.settings import Settings as TrainingSettings
from duologue_training.trainings import Trainings
from duologue_training.worker import TrainAdapter
from tests.support.barrage import Consumer, barrage, work_off
from tests.support.desk import CAMPAIGN_ID, DESK, dialogue, generated, requested, scored
from tests.support.desk_models import deciding, is_stage, obedient
from tests.support.eventually import eventually
from tests.support.model_server import ModelRequest, Said, ScriptedModelServer
from tests.support.sealed import sealed
from tests.support.training_process import calls, install

IDS = [dialogue_id(CAMPAIGN_ID, 1, Split.TRAINING, index) for index in range(2000)]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[EmbeddedBus]:
    bus = await EmbeddedBus.open(tmp_path / "bus.db")
    yield bus
    await bus.close()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
def workflows(artifacts: ArtifactStore) -> WorkflowStore:
    workflows = WorkflowStore(artifacts)
    workflows.put(DESK)
    return workflows


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    understands = deciding()

    def decide(request: ModelRequest, name: str, question: dict[str, Any]) -> Any:
        is_free_talk = len(request.body["questions"]) == 1  # which would go on for as many turns as are asked for
        return 0.9 if is_free_talk else understands(request, name, question)

    def say(request: ModelRequest) -> Said | str:
        return "end" if is_stage(request) else obedient(request)

    async with (
        ScriptedModelServer(say, decide) as server,
        ModelServer(server.endpoint(patience_seconds=0)) as models,
    ):
        yield models


def trained_adapter(artifacts: ArtifactStore) -> dialogue_pb2.AdapterRef:
    """An adapter that the model server speaks with."""
    said = Probe(messages=[{"role": "user", "content": "What is your code?"}], base="No.", adapter="Well.")
    stored = artifacts.write(
        "adapters/desk-r1/fingerprint.json", Fingerprint(max_tokens=16, probes=[said]).model_dump_json().encode()
    )
    fingerprint = dialogue_pb2.Artifact(uri=stored.uri, sha256=stored.sha256)
    return dialogue_pb2.AdapterRef(id="desk-r1", served_model="merged/desk-r1", fingerprint=fingerprint)


async def works(bus: EmbeddedBus, consumer: Consumer, message: Message, out: str) -> Record:
    """What a sound message causes on another topic."""
    before = {delivery.place async for delivery in bus.read(out)}
    await bus.publish([encode(consumer.topic, message, "test")])
    await work_off(bus, consumer)
    (caused,) = [delivery.record async for delivery in bus.read(out) if delivery.place not in before]
    return caused


async def test_requests_for_dialogues(
    bus: EmbeddedBus, artifacts: ArtifactStore, workflows: WorkflowStore, models: ModelServer
) -> None:
    chat = ChatModel(models)
    self_talk = SelfTalk(chat, chat, DecisionModel(models))
    consumer = Consumer(
        DIALOGUE_REQUESTED,
        "roleplay",
        PlayDialogue(self_talk, workflows, Adapters(models, artifacts)).handle,
    )
    # One turn pair each: it is not the talk that is tested.
    short = events_pb2.RolePlay(max_turns=1, recoveries=2, structured=True)
    free = events_pb2.RolePlay(max_turns=1, recoveries=2)
    paper = events_pb2.RolePlay(max_turns=1, recoveries=2, structured=True, preset=dialogue_pb2.PRESET_ULMER2024)
    sound = [
        requested(dialogue_id=name, index=index, role_play=paper if index % 2 else short)
        for index, name in enumerate(IDS)
    ]
    sound += [requested(role_play=free), requested(role_play=short, adapter=trained_adapter(artifacts))]
    await barrage(bus, [consumer], sound)
    played = decode(
        events_pb2.DialogueGenerated,
        await works(bus, consumer, requested(dialogue_id="after-the-storm"), DIALOGUE_GENERATED.name),
    )
    assert played.dialogue.turns[-1].node == "bye"


async def test_releases_of_adapters(bus: EmbeddedBus, artifacts: ArtifactStore, models: ModelServer) -> None:
    adapters = Adapters(models, artifacts)
    adapter = trained_adapter(artifacts)
    released = events_pb2.AdapterReleased(
        agent="desk", adapter=adapter, campaign_id=CAMPAIGN_ID, released_at="2026-01-01T00:00:00Z", cause="gate"
    )
    rolled_back = events_pb2.AdapterReleased(agent="desk", released_at="2026-01-01T00:00:00Z", cause="rollback")
    canary = events_pb2.AdapterReleased(
        agent="desk", released_at="2026-01-01T00:00:00Z", cause="canary", canary=adapter, canary_share=0.1
    )
    consumer = Consumer(ADAPTER_RELEASED, "roleplay", adapters.released, concurrency=1)
    await barrage(bus, [consumer], [released, rolled_back, canary])
    assert not [found.problem for found in await adapters.check(adapter) if found.problem]


async def test_dialogues_to_score(bus: EmbeddedBus, workflows: WorkflowStore, models: ModelServer) -> None:
    consumer = Consumer(DIALOGUE_GENERATED, "scoring", ScoreDialogue(Scorer(DecisionModel(models)), workflows).handle)
    sound = [generated(dialogue(name, index=index)) for index, name in enumerate(IDS)]
    await barrage(bus, [consumer], sound)
    record = await works(bus, consumer, generated(dialogue("after-the-storm")), DIALOGUE_SCORED.name)
    assert decode(events_pb2.DialogueScored, record).scores.success


async def test_dialogues_to_filter_and_what_was_taken_of_them_can_be_sealed(
    tmp_path: Path, bus: EmbeddedBus, artifacts: ArtifactStore, workflows: WorkflowStore
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'filtering.db'}")
    await database.migrate(Path(duologue_filtering.__file__).parent / "migrations")
    outbox = Outbox(OUTBOX, database, bus)
    sealer = Sealer(database, outbox, artifacts, workflows)
    consumer = Consumer(DIALOGUE_SCORED, "filtering", CollectCandidate(database, sealer).handle)
    await barrage(bus, [consumer], [scored(dialogue(name, index=index)) for index, name in enumerate(IDS)])

    await bus.publish([encode(DIALOGUE_SCORED, scored(dialogue("after-the-storm")), "test")])
    await work_off(bus, consumer)
    order = SealRow(
        dataset_id="desk-r1", campaign_id=CAMPAIGN_ID, round=1, candidates=1, filters="[]", seed=3, sealed=False
    )
    await database.run(lambda session: session.add(order))
    tasks = [asyncio.create_task(sealer.run(Term())), asyncio.create_task(outbox.relay(Term()))]
    (told,) = await eventually(lambda: everything_on(bus, DATASET_SEALED.name), "the dataset is sealed")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    dataset = decode(events_pb2.DatasetSealed, told)
    assert b"after-the-storm" in artifacts.read(dataset.manifest.uri, dataset.manifest.sha256)
    await database.close()


async def never_cancelled(campaign_id: str) -> None:
    await asyncio.Event().wait()


async def test_requests_for_trainings(
    tmp_path: Path, bus: EmbeddedBus, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitation = install(tmp_path, "trains")
    monkeypatch.setenv("PYTHONPATH", str(imitation))
    settings = TrainingSettings(work=str(tmp_path / "work"))
    train = TrainAdapter(artifacts, ChildTrainer(artifacts, settings), Trainings(), settings, never_cancelled)
    consumer = Consumer(TRAINING_REQUESTED, "training", train.handle, concurrency=1)
    sound = [order(artifacts, "desk-r1"), order(artifacts, "desk-r2")]
    await barrage(bus, [consumer], sound)
    for call in calls(imitation):
        plan = call["plan"]
        assert 1 <= plan["rank"] <= 4096
        assert 0 < plan["learning_rate"] <= 1
        assert plan["examples"]
    record = await works(bus, consumer, order(artifacts, "after-the-storm"), TRAINING_COMPLETED.name)
    assert decode(events_pb2.TrainingCompleted, record).error == ""


def order(artifacts: ArtifactStore, name: str) -> events_pb2.TrainingRequested:
    return events_pb2.TrainingRequested(
        training_id=name,
        campaign_id=CAMPAIGN_ID,
        round=1,
        adapter_id=name,
        datasets=[sealed(artifacts, f"{name}-a", dialogue(IDS[0])), sealed(artifacts, f"{name}-b", dialogue(IDS[1]))],
        base_model="models/base",
        rank=4,
        alpha=8,
        learning_rate=0.01,
        weight_decay=0.01,
        batch_size=2,
        epochs=1,
        warmup_steps=1,
        max_tokens=512,
        seed=3,
    )


async def everything_on(bus: EmbeddedBus, topic: str) -> Sequence[Record]:
    return [delivery.record async for delivery in bus.read(topic)]
