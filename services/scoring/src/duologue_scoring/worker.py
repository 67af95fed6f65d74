"""One dialogue becomes a dialogue with scores."""

from __future__ import annotations

from collections.abc import Sequence

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.convert import dialogue_from_proto, persona_from_proto, scores_to_proto, usage_to_proto
from duologue.contracts.topics import DIALOGUE_SCORED
from duologue.contracts.v1 import events_pb2 as pb
from duologue.core.usage import Account, Part
from duologue.store import WorkflowStore
from duologue_scoring.scorer import Scorer


class ScoreDialogue:
    """Scores what was generated."""

    def __init__(self, scorer: Scorer, workflows: WorkflowStore) -> None:
        self._scorer = scorer
        self._workflows = workflows

    async def handle(self, event: pb.DialogueGenerated) -> Sequence[Record]:
        scores, usage = await self._scorer.score(
            dialogue_from_proto(event.dialogue),
            await self._workflows.find(event.workflow),
            persona_from_proto(event.persona),
        )
        scored = pb.DialogueScored(
            dialogue_id=event.dialogue_id,
            dialogue=event.dialogue,
            scores=scores_to_proto(scores),
            workflow=event.workflow,
            persona=event.persona,
            judge=pb.Usage(
                prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, seconds=usage.seconds
            ),
            judge_usage=usage_to_proto(Account(Part.JUDGE, self._scorer.judge_model), usage),
        )
        return [encode(DIALOGUE_SCORED, scored, "scoring")]
