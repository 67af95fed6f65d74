"""Questions to the scoring service."""

from __future__ import annotations

from typing import Any

from duologue.contracts.convert import dialogue_from_proto, persona_from_proto, scores_to_proto
from duologue.contracts.limits import check_limits
from duologue.contracts.v1 import scoring_pb2 as pb
from duologue.contracts.v1 import scoring_pb2_grpc
from duologue.store import WorkflowStore
from duologue_scoring.scorer import Scorer


class ScoringRpc(scoring_pb2_grpc.ScoringServiceServicer):
    """See protos/duologue/v1/scoring.proto."""

    def __init__(self, scorer: Scorer, workflows: WorkflowStore) -> None:
        self._scorer = scorer
        self._workflows = workflows

    async def ScoreDialogue(self, request: pb.ScoreDialogueRequest, context: Any) -> pb.ScoreDialogueResponse:
        check_limits(request)
        scores, _ = await self._scorer.score(
            dialogue_from_proto(request.dialogue),
            await self._workflows.find(request.workflow),
            persona_from_proto(request.persona),
        )
        return pb.ScoreDialogueResponse(scores=scores_to_proto(scores))
