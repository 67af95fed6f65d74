"""All scores of a dialogue: what can be counted, and what a judge is asked."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from duologue.core.dialogue import Dialogue, Role
from duologue.core.persona import Persona
from duologue.core.prompts import consistency_question, consistency_state
from duologue.core.scores import Scores, Utterance, score_dialogue
from duologue.core.workflow import Workflow
from duologue.models import DecisionModel

# A System One request takes 64 questions; dialogues are shorter than that on each side.
_MAX_QUESTIONS = 64


class Scorer:
    """Scores dialogues; the judge is asked once per role, all its utterances in one request."""

    def __init__(self, judge: DecisionModel) -> None:
        self._judge = judge

    async def score(self, dialogue: Dialogue, workflow: Workflow, persona: Persona) -> Scores:
        turns = [Utterance(turn.role, turn.text) for turn in dialogue.turns]
        scores = score_dialogue(turns, workflow, dialogue.facts)
        agent = consistency_state(workflow.agent.role, workflow.agent.persona)
        client = consistency_state(persona.character, persona.description)
        leaks = sum("role_leak" in turn.repairs for turn in dialogue.turns)
        return replace(
            scores,
            character_agent=await self._consistency(agent, dialogue.said_by(Role.AGENT)),
            character_client=await self._consistency(client, dialogue.said_by(Role.CLIENT)),
            role_leaks=scores.role_leaks + leaks,
        )

    async def _consistency(self, state: str, utterances: list[str]) -> float | None:
        """Mean probability that an utterance fits the character (Ulmer et al. 2024, section 3.3); None for silence."""
        asked = utterances[:_MAX_QUESTIONS]
        if not asked:
            return None
        questions = {str(index): consistency_question(text) for index, text in enumerate(asked)}
        answers = await self._judge.ask(state, questions)
        return fmean(decision.probabilities["yes"] for decision in answers.decisions.values())
