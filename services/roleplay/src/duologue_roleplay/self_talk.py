"""Structured self-talk: two models and a workflow graph make a dialogue (Ulmer et al. 2024, section 3.2; METHOD)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from duologue.core.dialogue import Decision, Dialogue, EndReason, Provenance, Role, Split, Turn
from duologue.core.persona import Persona
from duologue.core.prompts import (
    PROMPTS_VERSION,
    Question,
    agent_prompt,
    ask_again,
    client_prompt,
    manager_questions,
    manager_state,
    say_now,
)
from duologue.core.scores import Utterance
from duologue.core.workflow import EndNode, Intention, SayNode, Workflow, fill
from duologue.models import Caller, ChatModel, DecisionModel, ModelUnavailable, Sampling
from duologue_roleplay.graph import GraphPosition
from duologue_roleplay.manager import Verdict, judge, relevant_choices
from duologue_roleplay.speculation import Speculation, likely_edge
from duologue_roleplay.unfinished import Heard, Unfinished
from duologue_roleplay.utterance import Ask, Spoken, bearing, speak


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
    deadline: float | None = None  # by the event loop's clock, where somebody waits no longer

    @property
    def caller(self) -> Caller:
        return Caller(self.campaign_id, self.dialogue_id, self.deadline)


@dataclass
class _Talk:
    """A dialogue while it is played."""

    plan: Plan
    position: GraphPosition
    told: Callable[[Turn], Awaitable[None]] | None
    ahead: Speculation
    heard: Heard
    turns: list[Turn] = field(default_factory=list)
    history: list[Utterance] = field(default_factory=list)
    agent_turns: int = 0
    stray: int = 0

    async def add(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.history.append(Utterance(turn.role, turn.text))
        self.agent_turns += turn.role is Role.AGENT
        if self.told is not None:
            await self.told(turn)

    def bear(self, unsaid: Spoken) -> None:
        """Count what a role cost that said nothing usable; an agent that never opened has no turn to bear it."""
        if self.turns:
            self.turns[-1] = bearing(self.turns[-1], unsaid)


class SelfTalk:
    """Plays dialogues with three models, as many at once as you like.

    Of one that breaks off because a server does not answer, the answers are kept for the next try.
    """

    def __init__(self, client: ChatModel, agent: ChatModel, manager: DecisionModel, *, speculate: bool = False) -> None:
        """`speculate`: ask the agent for the likeliest next turn while the manager decides, see `speculation`."""
        self._client = client
        self._agent = agent
        self._manager = manager
        self._speculate = speculate
        self._unfinished = Unfinished()

    async def play(self, plan: Plan, told: Callable[[Turn], Awaitable[None]] | None = None) -> Dialogue:
        """Play a dialogue to its end; `told` is awaited with each turn.

        Three requests for a turn pair: agent, client, and all decisions about the client's reply in one. A wrong
        speculation is a fourth.
        """
        plan = self._with_models(plan)
        position = GraphPosition(plan.workflow, plan.intention, random.Random(plan.seed))
        async with Speculation() as ahead:
            talk = _Talk(plan, position, told, ahead, self._unfinished.take(plan))
            try:
                reason = await self._play_structured(talk) if plan.structured else await self._play_free(talk)
            except ModelUnavailable:
                self._unfinished.keep(plan, talk.heard)
                raise
            await ahead.settle(talk.turns)
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
                aside = fill(talk.plan.workflow.anytime[verdict.aside].text, position.facts)
                instruction, node = say_now(f"{aside} {position.reference}"), verdict.aside
            else:
                instruction, node = ask_again(position.reference), position.name
        return EndReason.TURN_LIMIT

    async def _play_free(self, talk: _Talk) -> EndReason:
        """Without structured prompting: the agent is told nothing, the graph is not walked, only the end is watched."""
        question: dict[str, Question] = {"ended": {"type": "noul", "instructions": "Is the conversation over?"}}
        for _ in range(talk.plan.max_turns):
            if not await self._agent_speaks(talk, "", ""):
                return EndReason.SILENT
            reply = await self._client_speaks(talk)
            if not reply.text:
                talk.bear(reply)
                return EndReason.SILENT
            decisions = await self._decide(talk, reply, "", question)
            if decisions["ended"].answer == "yes":
                return EndReason.CLIENT_LEFT
        return EndReason.TURN_LIMIT

    async def _agent_speaks(self, talk: _Talk, instruction: str, node: str) -> bool:
        spoken = await self._say(talk, self._agent, _agent_ask(talk.plan, talk.history, instruction, len(talk.turns)))
        if not spoken.text:
            talk.bear(spoken)
            return False
        await talk.add(replace(_turn(Role.AGENT, spoken, node, instruction), again=talk.stray > 0))
        return True

    async def _client_replies(self, talk: _Talk, node: SayNode) -> Verdict | None:
        """What the client's reply means for the graph; None when the client says nothing usable."""
        reply = await self._client_speaks(talk)
        if not reply.text:
            talk.bear(reply)
            return None
        is_decided = len(talk.turns) in talk.heard.decided
        if self._speculate and talk.agent_turns < talk.plan.max_turns and not is_decided:
            self._speak_ahead(talk, reply, node)
        questions = manager_questions(talk.plan.workflow, node, talk.position.facts)
        decisions = await self._decide(talk, reply, talk.position.name, questions)
        return judge(decisions, node, talk.plan.workflow)

    def _speak_ahead(self, talk: _Talk, reply: Spoken, node: SayNode) -> None:
        """Ask the agent for its turn after the edge that the reply will most likely be taken for."""
        position = talk.position.fork()
        calls = position.follow(likely_edge(reply.text, node, position.facts))
        history = [*talk.history, Utterance(Role.CLIENT, reply.text), *(Utterance(Role.TOOL, c.text) for c in calls)]
        ask = _agent_ask(talk.plan, history, say_now(position.reference), len(history))
        talk.ahead.begin(self._agent, ask)

    async def _client_speaks(self, talk: _Talk) -> Spoken:
        plan = talk.plan
        messages = client_prompt(plan.workflow, plan.persona, plan.intention, talk.history)
        ask = Ask(Role.CLIENT, plan.client_model, messages, plan.sampling, _seed(plan, len(talk.turns)), plan.caller)
        return await self._say(talk, self._client, ask)

    async def _say(self, talk: _Talk, chat: ChatModel, ask: Ask) -> Spoken:
        """The answer to `ask`: heard before, or asked for ahead, or now."""
        place = len(talk.turns)
        spoken = talk.heard.spoken.get(place)
        if spoken is None:
            spoken = await talk.ahead.claim(ask, place) if ask.speaker is Role.AGENT else None
            spoken = talk.heard.spoken[place] = spoken or await speak(chat, ask)
        return replace(spoken)  # what follows adds its own cost

    async def _decide(
        self, talk: _Talk, reply: Spoken, node: str, questions: dict[str, Question]
    ) -> dict[str, Decision]:
        """Ask the manager about the client's reply, and take the reply into the dialogue with the answers."""
        state = manager_state([*talk.history, Utterance(Role.CLIENT, reply.text)])
        plan = talk.plan
        place = len(talk.turns)
        answers = talk.heard.decided.get(place)
        if answers is None:
            answers = talk.heard.decided[place] = await self._manager.ask(
                state, questions, model=plan.manager_model, relevant=relevant_choices, caller=plan.caller
            )
        reply.prompt_tokens += answers.prompt_tokens
        reply.completion_tokens += answers.completion_tokens
        reply.seconds += answers.seconds
        await talk.add(_turn(Role.CLIENT, reply, node, decisions=tuple(answers.decisions.values())))
        return answers.decisions


def _agent_ask(plan: Plan, history: Sequence[Utterance], instruction: str, place: int) -> Ask:
    messages = agent_prompt(plan.workflow, history, instruction)
    return Ask(Role.AGENT, plan.agent_model, messages, plan.sampling, _seed(plan, place), plan.caller)


def _seed(plan: Plan, place: int) -> int:
    """Another for every turn of the dialogue and every try, the same in every replay.

    The answer is the same too where a server draws each request from a generator of its own. `transformers serve` seeds
    the one of its process, so there only requests that come one at a time are answered alike.
    """
    return (plan.seed * 1_000_003 + place * 10) % 2**31


def _turn(role: Role, spoken: Spoken, node: str, instruction: str = "", decisions: tuple[Decision, ...] = ()) -> Turn:
    return Turn(
        role,
        spoken.text,
        node=node,
        instruction=instruction,
        decisions=decisions,
        repairs=spoken.repairs,
        prompt_tokens=spoken.prompt_tokens,
        completion_tokens=spoken.completion_tokens,
        seconds=spoken.seconds,
    )


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
