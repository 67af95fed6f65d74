"""One request becomes a dialogue, or an error of the kind that says what should happen next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from duologue.bus import Poison, Transient
from duologue.bus.codec import decode
from duologue.contracts.convert import dialogue_from_proto
from duologue.contracts.topics import DIALOGUE_GENERATED
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import EndReason, Preset, Split
from duologue.models import ChatModel, DecisionModel, ModelServer, Sampling
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactStore, WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.worker import PlayDialogue
from tests.support.desk import CAMPAIGN_ID, DESK, requested, workflow_ref
from tests.support.desk_models import as_in_the_paper, deciding, obedient
from tests.support.metrics import told
from tests.support.model_server import CHAT, Answered, ScriptedModelServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "artifacts"))


@pytest.fixture
async def play(server: ScriptedModelServer, artifacts: ArtifactStore) -> AsyncIterator[PlayDialogue]:
    WorkflowStore(artifacts).put(DESK)
    async with ModelServer(server.endpoint(patience_seconds=0)) as models:
        chat = ChatModel(models)
        self_talk = SelfTalk(chat, chat, DecisionModel(models))
        yield PlayDialogue(self_talk, WorkflowStore(artifacts), Adapters(models, artifacts))


async def test_a_request_becomes_one_dialogue_with_all_that_scoring_needs(play: PlayDialogue) -> None:
    asked = requested()
    (record,) = await play.handle(asked)
    assert (record.topic, record.key) == (DIALOGUE_GENERATED.name, asked.dialogue_id)
    generated = decode(events_pb2.DialogueGenerated, record)
    assert (generated.workflow, generated.persona) == (asked.workflow, asked.persona)
    dialogue = dialogue_from_proto(generated.dialogue)
    assert (dialogue.id, dialogue.campaign_id) == (asked.dialogue_id, CAMPAIGN_ID)
    assert (dialogue.round, dialogue.split, dialogue.index) == (2, Split.EVALUATION, 5)
    assert dialogue.end_reason is EndReason.COMPLETED
    assert dialogue.provenance.seed == 11


async def test_a_dialogue_is_counted_by_its_workflow_and_why_it_ended(play: PlayDialogue) -> None:
    labels = {"workflow": DESK.id, "split": "evaluation", "end_reason": "completed"}
    before = told("duologue_dialogues_played_total", **labels)
    await play.handle(requested())
    assert told("duologue_dialogues_played_total", **labels) - before == 1


async def test_a_request_that_comes_twice_asks_the_models_for_the_same(
    play: PlayDialogue, server: ScriptedModelServer
) -> None:
    (first,) = await play.handle(requested())
    (second,) = await play.handle(requested())
    one, two = (decode(events_pb2.DialogueGenerated, record).dialogue for record in (first, second))
    assert [(turn.text, turn.node) for turn in one.turns] == [(turn.text, turn.node) for turn in two.turns]
    half = len(server.requests) // 2
    assert [asked.body for asked in server.requests[:half]] == [asked.body for asked in server.requests[half:]]


async def test_the_request_s_sampling_and_models_are_used(play: PlayDialogue, server: ScriptedModelServer) -> None:
    await play.handle(requested(models=events_pb2.Models(client="c", agent="a", manager="m")))
    assert [asked.body["model"] for asked in server.requests[:3]] == ["a", "c", "m"]
    body = server.asked(CHAT)[0].body
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.5, pytest.approx(0.9), 30)


async def test_the_request_s_preset_is_played_and_told(play: PlayDialogue, server: ScriptedModelServer) -> None:
    server.say = as_in_the_paper()
    role_play = events_pb2.RolePlay(max_turns=8, recoveries=100, structured=True, preset=dialogue_pb2.PRESET_ULMER2024)
    (record,) = await play.handle(requested(role_play=role_play))
    dialogue = dialogue_from_proto(decode(events_pb2.DialogueGenerated, record).dialogue)
    assert dialogue.provenance.preset is Preset.ULMER2024
    assert dialogue.end_reason is EndReason.COMPLETED
    assert {asked.path for asked in server.requests} == {CHAT}


async def test_all_of_the_request_s_sampling_is_planned_with(play: PlayDialogue) -> None:
    asked = requested(decoding=events_pb2.Decoding(temperature=0.5, top_p=0.75, max_tokens=30, top_k=50))
    assert (await play._plan(asked, deadline=None)).sampling == Sampling(0.5, 0.75, 30, 50)


async def test_a_workflow_that_is_not_in_the_store_yet_is_waited_for(play: PlayDialogue) -> None:
    ref = dialogue_pb2.WorkflowRef(
        id="x", version="abcdefabcdef", artifact=dialogue_pb2.Artifact(uri="workflows/abcdefabcdef.json")
    )
    with pytest.raises(Transient, match="abcdefabcdef"), classify_errors():
        await play.handle(requested(workflow=ref))


async def test_a_workflow_that_is_damaged_is_poison(play: PlayDialogue, artifacts: ArtifactStore) -> None:
    ref = dialogue_pb2.WorkflowRef(id="desk", version=DESK.version, artifact=workflow_ref(DESK).artifact)
    artifacts.write(ref.artifact.uri, DESK.to_json().replace("parcel", "letter").encode())
    with pytest.raises(Poison, match=DESK.version), classify_errors():
        await play.handle(requested(workflow=ref))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"intention_id": "nonsense"}, 'no intention "nonsense"'),
        ({"persona": dialogue_pb2.Persona(id="teacher")}, "persona 'teacher'"),
        ({"split": dialogue_pb2.SPLIT_UNSPECIFIED}, "unknown split 0"),
        ({"role_play": events_pb2.RolePlay(recoveries=2)}, "role_play.max_turns"),
        ({"decoding": events_pb2.Decoding(temperature=0.5)}, "decoding.max_tokens"),
        (
            {"role_play": events_pb2.RolePlay(max_turns=1, preset=99)},  # type: ignore[arg-type]
            "unknown preset 99",
        ),
    ],
)
async def test_a_request_that_can_never_be_played_is_poison_and_no_model_is_asked(
    play: PlayDialogue, server: ScriptedModelServer, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Poison, match=reason), classify_errors():
        await play.handle(requested(**changes))
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Transient), (503, Transient), (401, Transient), (404, Transient), (422, Poison)]
)
async def test_what_a_model_server_says_decides_whether_the_request_is_tried_again(
    play: PlayDialogue, server: ScriptedModelServer, status: int, kind: type[Exception]
) -> None:
    server.faults = [Answered(status, "no")]
    with pytest.raises(kind, match=str(status)), classify_errors():
        await play.handle(requested())


async def test_a_busy_server_s_wish_reaches_the_retry(play: PlayDialogue, server: ScriptedModelServer) -> None:
    server.faults = [Answered(429, "busy", {"Retry-After": "17"})]
    with pytest.raises(Transient) as caught, classify_errors():
        await play.handle(requested())
    assert caught.value.retry_after == 17
