"""Structured self-talk: two models and a workflow graph make a dialogue (Ulmer et al. 2024, section 3.2; METHOD)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from duologue.core.dialogue import Decision, Dialogue, EndReason, Provenance, Role, Split, Turn
from duologue.core.persona import Persona
from duologue.core.prompts import (
    PROMPTS_VERSION,
    STOP,
    Message,
    agent_prompt,
    ask_again,
    client_prompt,
    manager_questions,
    manager_state,
    say_now,
)
from duologue.core.scores import Utterance
from duologue.core.workflow import EndNode, Intention, SayNode, Workflow
from duologue.models import ChatModel, DecisionModel
from duologue.models.chat import Sampling
from duologue_roleplay.graph import GraphPosition
from duologue_roleplay.manager import Verdict, judge
from duologue_roleplay.repair import repair

# An utterance of which nothing is left after repair is asked for once more, with another seed.
_TRIES = 2


@dataclass(frozen=True)
class Plan:
    """All that a dialogue is played from."""

    dialogue_id: str
    campaign_id: str
    round: int
    split: Split
    index: int
    seed: int
    workflow: Workflow
    persona: Persona
    intention: Intention
    sampling: Sampling
    max_turns: int
    recoveries: int
    structured: bool
    client_model: str
    agent_model: str
    manager_model: str
    adapter_id: str = ""
    adapter_fingerprint: str = ""


@dataclass
class _Talk:
    """A dialogue while it is played."""

    plan: Plan
    position: GraphPosition
    told: Callable[[Turn], Awaitable[None]] | None
    turns: list[Turn] = field(default_factory=list)
    history: list[Utterance] = field(default_factory=list)
    stray: int = 0

    async def add(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.history.append(Utterance(turn.role, turn.text))
        if self.told is not None:
            await self.told(turn)

    def seed(self, attempt: int) -> int:
        """Another for every request of the dialogue, the same in every replay."""
        return (self.plan.seed * 1_000_003 + len(self.turns) * 10 + attempt) % 2**31


class SelfTalk:
    """Plays dialogues with three models. Holds no state between dialogues; play as many at once as you like."""

    def __init__(self, client: ChatModel, agent: ChatModel, manager: DecisionModel) -> None:
        self._client = client
        self._agent = agent
        self._manager = manager

    async def play(self, plan: Plan, told: Callable[[Turn], Awaitable[None]] | None = None) -> Dialogue:
        """Play a dialogue to its end; `told` is awaited with each turn.

        Three requests for a turn pair: agent, client, and all decisions about the client's reply in one.
        """
        plan = self._with_models(plan)
        position = GraphPosition(plan.workflow, plan.intention, random.Random(plan.seed))
        talk = _Talk(plan, position, told)
        reason = await self._play_structured(talk) if plan.structured else await self._play_free(talk)
        return Dialogue(
            id=plan.dialogue_id,
            campaign_id=plan.campaign_id,
            round=plan.round,
            split=plan.split,
            index=plan.index,
            turns=tuple(talk.turns),
            end_reason=reason,
            provenance=_provenance(plan),
            facts=position.facts,
        )

    def _with_models(self, plan: Plan) -> Plan:
        return replace(
            plan,
            client_model=plan.client_model or self._client.default_model,
            agent_model=plan.agent_model or self._agent.default_model,
            manager_model=plan.manager_model or self._manager.default_model,
        )

    async def _play_structured(self, talk: _Talk) -> EndReason:
        position = talk.position
        for turn in position.enter():
            await talk.add(turn)
        instruction, node = say_now(position.reference), position.name
        for _ in range(talk.plan.max_turns):
            if not await self._agent_speaks(talk, instruction, node):
                return EndReason.SILENT
            present = position.node
            if isinstance(present, EndNode):
                return EndReason.COMPLETED
            verdict = await self._client_replies(talk, present)
            if verdict is None:
                return EndReason.SILENT
            if verdict.has_left:
                return EndReason.CLIENT_LEFT
            if verdict.edge is not None:
                talk.stray = 0
                for turn in position.follow(verdict.edge):
                    await talk.add(turn)
                instruction, node = say_now(position.reference), position.name
                continue
            talk.stray += 1
            if talk.stray > talk.plan.recoveries:
                return EndReason.DERAILED
            if verdict.aside is not None:
                aside = talk.plan.workflow.anytime[verdict.aside].text
                instruction, node = say_now(f"{aside} {position.reference}"), verdict.aside
            else:
                instruction, node = ask_again(position.reference), position.name
        return EndReason.TURN_LIMIT

    async def _play_free(self, talk: _Talk) -> EndReason:
        """Without structured prompting: the agent is told nothing, the graph is not walked, only the end is watched."""
        question: dict[str, dict[str, Any]] = {"ended": {"type": "noul", "instructions": "Is the conversation over?"}}
        for _ in range(talk.plan.max_turns):
            if not await self._agent_speaks(talk, "", ""):
                return EndReason.SILENT
            reply = await self._client_speaks(talk, "")
            if reply is None:
                return EndReason.SILENT
            answers = await self._decide(talk, reply, question)
            if answers["ended"].answer == "yes":
                return EndReason.CLIENT_LEFT
        return EndReason.TURN_LIMIT

    async def _agent_speaks(self, talk: _Talk, instruction: str, node: str) -> bool:
        messages = agent_prompt(talk.plan.workflow, talk.history, instruction)
        turn = await self._speak(talk, self._agent, messages, Role.AGENT, talk.plan.agent_model)
        if turn is None:
            return False
        await talk.add(replace(turn, instruction=instruction, node=node))
        return True

    async def _client_replies(self, talk: _Talk, node: SayNode) -> Verdict | None:
        """What the client's reply means for the graph; None when the client says nothing usable."""
        reply = await self._client_speaks(talk, talk.position.name)
        if reply is None:
            return None
        questions = manager_questions(talk.plan.workflow, node, talk.position.facts)
        decisions = await self._decide(talk, reply, questions)
        return judge(decisions, node, talk.plan.workflow)

    async def _client_speaks(self, talk: _Talk, node: str) -> Turn | None:
        plan = talk.plan
        messages = client_prompt(plan.workflow, plan.persona, plan.intention, talk.history)
        turn = await self._speak(talk, self._client, messages, Role.CLIENT, plan.client_model)
        return None if turn is None else replace(turn, node=node)

    async def _decide(self, talk: _Talk, reply: Turn, questions: dict[str, dict[str, Any]]) -> dict[str, Decision]:
        """Ask the manager about the client's reply, and take the reply into the dialogue with the answers."""
        state = manager_state([*talk.history, Utterance(reply.role, reply.text)])
        answers = await self._manager.ask(state, questions, model=talk.plan.manager_model)
        await talk.add(
            replace(
                reply,
                decisions=tuple(answers.decisions.values()),
                prompt_tokens=reply.prompt_tokens + answers.prompt_tokens,
                seconds=reply.seconds + answers.seconds,
            )
        )
        return answers.decisions

    async def _speak(
        self, talk: _Talk, chat: ChatModel, messages: Sequence[Message], speaker: Role, model: str
    ) -> Turn | None:
        """One utterance, mended; None when nothing of it was usable, twice. The tokens of both tries are counted."""
        prompt_tokens = completion_tokens = 0
        seconds = 0.0
        repairs: tuple[str, ...] = ()
        for attempt in range(_TRIES):
            completion = await chat.complete(
                messages, talk.plan.sampling, model=model, stop=STOP, seed=talk.seed(attempt)
            )
            prompt_tokens += completion.prompt_tokens
            completion_tokens += completion.completion_tokens
            seconds += completion.seconds
            text, mended = repair(completion.text, speaker, is_cut=completion.is_cut)
            repairs += mended
            if text:
                return Turn(
                    speaker,
                    text,
                    repairs=repairs,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                    seconds=seconds,
                )
            repairs += ("empty",)
        return None


def _provenance(plan: Plan) -> Provenance:
    return Provenance(
        workflow_id=plan.workflow.id,
        workflow_version=plan.workflow.version,
        persona_id=plan.persona.id,
        persona_version=plan.persona.version,
        intention_id=plan.intention.id,
        prompts_version=PROMPTS_VERSION,
        seed=plan.seed,
        structured=plan.structured,
        client_model=plan.client_model,
        agent_model=plan.agent_model,
        manager_model=plan.manager_model,
        adapter_id=plan.adapter_id,
        adapter_fingerprint=plan.adapter_fingerprint,
    )
