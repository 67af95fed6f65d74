"""All scores of a dialogue: what can be counted, and what a judge is asked."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from duologue.core.dialogue import Dialogue, Role
from duologue.core.persona import Persona
from duologue.core.prompts import consistency_question, consistency_state
from duologue.core.scores import Scores, Utterance, score_dialogue
from duologue.core.usage import Usage, total
from duologue.core.workflow import Workflow
from duologue.models import Caller, DecisionModel
from duologue.models.answers import Answers

# A System One request takes 64 questions; dialogues are shorter than that on each side.
_MAX_QUESTIONS = 64


class Scorer:
    """Scores dialogues; the judge is asked once per role, all its utterances in one request."""

    def __init__(self, judge: DecisionModel) -> None:
        self._judge = judge

    @property
    def judge_model(self) -> str:
        return self._judge.default_model

    async def score(self, dialogue: Dialogue, workflow: Workflow, persona: Persona) -> tuple[Scores, Usage]:
        """The scores, and what the judge was used for. Raises `ModelUnavailable` or `ModelRefused`."""
        turns = [Utterance(turn.role, turn.text, turn.again) for turn in dialogue.turns]
        scores = score_dialogue(turns, workflow, dialogue.facts)
        agent = consistency_state(workflow.agent.role, workflow.agent.persona)
        client = consistency_state(persona.character, persona.description)
        leaks = sum("role_leak" in turn.repairs for turn in dialogue.turns)
        caller = Caller(dialogue.campaign_id, dialogue.id)
        agent_fits = await self._consistency(agent, dialogue.said_by(Role.AGENT), caller)
        client_fits = await self._consistency(client, dialogue.said_by(Role.CLIENT), caller)
        scores = replace(
            scores,
            character_agent=_mean_yes(agent_fits),
            character_client=_mean_yes(client_fits),
            role_leaks=scores.role_leaks + leaks,
        )
        return scores, total(fits.usage for fits in (agent_fits, client_fits) if fits is not None)

    async def _consistency(self, state: str, utterances: list[str], caller: Caller) -> Answers | None:
        """Whether each utterance fits the character (Ulmer et al. 2024, section 3.3); None for silence."""
        asked = utterances[:_MAX_QUESTIONS]
        if not asked:
            return None
        questions = {str(index): consistency_question(text) for index, text in enumerate(asked)}
        return await self._judge.ask(state, questions, caller=caller)


def _mean_yes(answers: Answers | None) -> float | None:
    if answers is None:
        return None
    return fmean(decision.probabilities["yes"] for decision in answers.decisions.values())
