"""One dialogue becomes a dialogue with scores."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Histogram

from duologue.bus import Record
from duologue.bus.codec import encode
from duologue.contracts.convert import dialogue_from_proto, persona_from_proto, scores_to_proto, usage_to_proto
from duologue.contracts.topics import DIALOGUE_SCORED
from duologue.contracts.v1 import events_pb2 as pb
from duologue.core.dialogue import Split
from duologue.core.scores import Scores
from duologue.core.usage import Account, Part
from duologue.store import WorkflowStore
from duologue_scoring.scorer import Scorer

_SHARES = ("subgoals_relative", "subgoals_branch", "ended", "success", "character_client", "character_agent")
_SCORES = Histogram(
    "duologue_dialogue_score_ratio",
    "Scores of dialogues, those in [0, 1]; yes counts 1, no 0.",
    ("metric", "split"),
    buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
for _metric in _SHARES:
    for _split in Split:
        _SCORES.labels(_metric, _split)


class ScoreDialogue:
    """Scores what was generated."""

    def __init__(self, scorer: Scorer, workflows: WorkflowStore) -> None:
        self._scorer = scorer
        self._workflows = workflows

    async def handle(self, event: pb.DialogueGenerated) -> Sequence[Record]:
        dialogue = dialogue_from_proto(event.dialogue)
        scores, usage = await self._scorer.score(
            dialogue, await self._workflows.find(event.workflow), persona_from_proto(event.persona)
        )
        _observe(scores, dialogue.split)
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


def _observe(scores: Scores, split: Split) -> None:
    """What was not measured does not count."""
    for metric in _SHARES:
        value = getattr(scores, metric)
        if value is not None:
            _SCORES.labels(metric, split).observe(value)
