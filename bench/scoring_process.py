"""The scoring service with scores that take no time: all but the scorer is the service's own."""

from __future__ import annotations

import asyncio

import scenario

from duologue.contracts.topics import DIALOGUE_GENERATED
from duologue.contracts.v1 import events_pb2
from duologue.core.dialogue import Dialogue
from duologue.core.persona import Persona
from duologue.core.scores import Scores, score_dialogue
from duologue.core.workflow import Workflow
from duologue.runtime import Runtime, load_settings
from duologue.store import ArtifactStore, WorkflowStore
from duologue_scoring.scorer import Cost, Scorer
from duologue_scoring.settings import Settings
from duologue_scoring.worker import ScoreDialogue


class InstantScorer(Scorer):
    """Gives every dialogue the same scores."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    async def score(self, dialogue: Dialogue, workflow: Workflow, persona: Persona) -> tuple[Scores, Cost]:
        return self._scores, Cost()


async def main() -> None:
    settings = load_settings(Settings)
    async with Runtime("scoring", settings) as runtime:
        workflows = WorkflowStore(ArtifactStore(settings.artifacts.url))
        handle = ScoreDialogue(InstantScorer(score_dialogue([], scenario.workflow())), workflows).handle
        runtime.consume(DIALOGUE_GENERATED, events_pb2.DialogueGenerated, handle, concurrency=settings.concurrency)
        await runtime.until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
