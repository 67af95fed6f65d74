"""A dialogue that was generated becomes a dialogue with scores, on the bus and over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from duologue.bus import Poison, Transient
from duologue.bus.codec import decode
from duologue.contracts.convert import dialogue_from_proto, scores_from_proto
from duologue.contracts.topics import DIALOGUE_SCORED
from duologue.contracts.v1 import dialogue_pb2, events_pb2, scoring_pb2, scoring_pb2_grpc
from duologue.models import DecisionModel, ModelServer
from duologue.runtime.failures import classify_errors
from duologue.store import ArtifactStore, WorkflowStore
from duologue_scoring.rpc import ScoringRpc
from duologue_scoring.scorer import Scorer
from duologue_scoring.worker import ScoreDialogue
from tests.support.desk import DESK, TEACHER, dialogue, generated
from tests.support.grpc_server import serving
from tests.support.metrics import told
from tests.support.model_server import Answered, Dropped, ScriptedModelServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(decide=lambda *_: 0.75) as server:
        yield server


@pytest.fixture
async def scorer(server: ScriptedModelServer) -> AsyncIterator[Scorer]:
    async with ModelServer(server.endpoint(patience_seconds=0)) as judge:
        yield Scorer(DecisionModel(judge))


@pytest.fixture
def workflows(tmp_path: Path) -> WorkflowStore:
    workflows = WorkflowStore(ArtifactStore(str(tmp_path / "artifacts")))
    workflows.put(DESK)
    return workflows


@pytest.fixture
def worker(scorer: Scorer, workflows: WorkflowStore) -> ScoreDialogue:
    return ScoreDialogue(scorer, workflows)


async def test_the_dialogue_goes_on_with_its_scores_and_nothing_is_lost(worker: ScoreDialogue, scorer: Scorer) -> None:
    event = generated(dialogue())
    (record,) = await worker.handle(event)
    assert (record.topic, record.key) == (DIALOGUE_SCORED.name, event.dialogue_id)
    scored = decode(events_pb2.DialogueScored, record)
    assert (scored.dialogue, scored.workflow, scored.persona) == (event.dialogue, event.workflow, event.persona)
    scores, cost = await scorer.score(dialogue_from_proto(event.dialogue), DESK, TEACHER)
    assert scores_from_proto(scored.scores) == scores
    assert scored.judge.prompt_tokens == cost.prompt_tokens > 0
    assert scored.judge.seconds > 0
    told = scored.judge_usage
    assert (told.part, told.model, told.wasted, told.told_tokens) == ("judge", "scripted", False, 0)
    for figure in ("prompt_tokens", "completion_tokens", "seconds"):
        assert getattr(told, figure) == getattr(scored.judge, figure)


async def test_what_was_not_measured_is_absent_and_not_zero(worker: ScoreDialogue) -> None:
    (record,) = await worker.handle(generated(dialogue(turns=())))
    scored = decode(events_pb2.DialogueScored, record)
    assert not scored.scores.HasField("character_agent")
    assert scores_from_proto(scored.scores).character_agent is None


async def test_a_dialogue_that_comes_twice_is_scored_alike(worker: ScoreDialogue) -> None:
    (first,) = await worker.handle(generated(dialogue()))
    (second,) = await worker.handle(generated(dialogue()))
    one, two = (decode(events_pb2.DialogueScored, record) for record in (first, second))
    for usage in (one.judge, one.judge_usage, two.judge, two.judge_usage):
        usage.ClearField("seconds")  # all but the time that it took
    assert one == two


async def test_a_workflow_that_is_not_there_yet_is_waited_for(worker: ScoreDialogue) -> None:
    event = generated(dialogue())
    event.workflow.version = "0" * 12
    event.workflow.artifact.uri = "workflows/000000000000.json"
    with pytest.raises(Transient, match="000000000000"), classify_errors():
        await worker.handle(event)


async def test_a_dialogue_of_an_unknown_kind_is_poison(worker: ScoreDialogue, server: ScriptedModelServer) -> None:
    event = generated(dialogue())
    event.dialogue.turns[0].role = dialogue_pb2.ROLE_UNSPECIFIED
    with pytest.raises(Poison, match="unknown role 0"), classify_errors():
        await worker.handle(event)
    assert server.requests == []


@pytest.mark.parametrize("fault", [Answered(500), Answered(429), Dropped(), Answered(200, "no json")])
async def test_a_judge_that_is_out_of_order_is_waited_for(
    worker: ScoreDialogue, server: ScriptedModelServer, fault: Answered | Dropped
) -> None:
    server.faults = [fault]
    with pytest.raises(Transient), classify_errors():
        await worker.handle(generated(dialogue()))


async def test_a_dialogue_can_be_scored_on_request(scorer: Scorer, workflows: WorkflowStore) -> None:
    event = generated(dialogue())
    register = scoring_pb2_grpc.add_ScoringServiceServicer_to_server
    async with (
        serving(register, ScoringRpc(scorer, workflows)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        service = scoring_pb2_grpc.ScoringServiceStub(channel)
        request = scoring_pb2.ScoreDialogueRequest(
            dialogue=event.dialogue, workflow=event.workflow, persona=event.persona
        )
        response = await service.ScoreDialogue(request)
        assert response.scores.character_client == 0.75
        assert list(response.scores.nodes) == ["greet", "tell", "bye"]
        request.dialogue.end_reason = dialogue_pb2.END_REASON_UNSPECIFIED
        with pytest.raises(grpc.aio.AioRpcError, match="unknown end reason 0") as caught:
            await service.ScoreDialogue(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_scores_are_told_of_by_metric_and_split(worker: ScoreDialogue) -> None:
    def counted(split: str, part: str) -> float:
        return told(f"duologue_dialogue_score_ratio_{part}", metric="subgoals_relative", split=split)

    before = [counted("training", "count"), counted("training", "sum"), counted("evaluation", "count")]
    (record,) = await worker.handle(generated(dialogue()))
    score = decode(events_pb2.DialogueScored, record).scores.subgoals_relative
    after = [counted("training", "count"), counted("training", "sum"), counted("evaluation", "count")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, pytest.approx(score), 0]
