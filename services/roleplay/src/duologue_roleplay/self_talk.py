"""Structured self-talk: two models and a workflow graph make a dialogue (Ulmer et al. 2024, section 3.2; METHOD)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from duologue.core.dialogue import Decision, Dialogue, EndReason, Preset, Provenance, Role, Split, Turn
from duologue.core.persona import Persona
from duologue.core.presets import PROMPTS
from duologue.core.prompts import say_now
from duologue.core.scores import Utterance
from duologue.core.usage import Ledger, Part, Usage
from duologue.core.workflow import EndNode, Intention, SayNode, Workflow
from duologue.models import Caller, ChatModel, DecisionModel, ModelRefused, ModelUnavailable, Sampling
from duologue_roleplay.graph import GraphPosition
from duologue_roleplay.manager import Cue, DecidingManager, Manager, Scene, Verdict
from duologue_roleplay.speculation import Speculation, likely_edge
from duologue_roleplay.ulmer2024 import PaperManager
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
    preset: Preset = Preset.DUOLOGUE
    deadline: float | None = None  # by the event loop's clock, where somebody waits no longer
    begun: float = field(default=0.0, compare=False)  # by the same clock; another try is the same plan

    @property
    def caller(self) -> Caller:
        return Caller(self.campaign_id, self.dialogue_id, self.deadline, self.begun)


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
    ledger: Ledger = field(default_factory=Ledger)
    agent_turns: int = 0
    stray: int = 0

    async def add(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.history.append(Utterance(turn.role, turn.text))
        self.agent_turns += turn.role is Role.AGENT
        if self.told is not None:
            await self.told(turn)

    def book(self, part: Part, model: str, spoken: Spoken) -> None:
        self.ledger.book(part, model, spoken.usage)
        self.ledger.book(part, model, spoken.wasted, wasted=True)

    def bear(self, unsaid: Spoken) -> None:
        """Count what a role cost that said nothing usable; an agent that never opened has no turn to bear it."""
        if self.turns:
            self.turns[-1] = bearing(self.turns[-1], unsaid.whole_usage)


class SelfTalk:
    """Plays dialogues with three models, as many at once as you like.

    Of one that breaks off because a server does not answer, the answers are kept for the next try.
    """

    def __init__(self, client: ChatModel, agent: ChatModel, manager: DecisionModel, *, speculate: bool = False) -> None:
        """`speculate`: ask the agent for the likeliest next turn while the manager decides, see `speculation`."""
        self._client = client
        self._agent = agent
        self._managers: dict[Preset, Manager] = {
            Preset.DUOLOGUE: DecidingManager(manager),
            Preset.ULMER2024: PaperManager(client),
        }
        self._speculate = speculate
        self._unfinished = Unfinished()

    async def play(self, plan: Plan, told: Callable[[Turn], Awaitable[None]] | None = None) -> Dialogue:
        """Play a dialogue to its end; `told` is awaited with each turn.

        Three requests for a turn pair: agent, client, and all decisions about the client's reply in one (the paper's
        manager makes two of them). A wrong speculation is one more.
        """
        plan = self._with_models(plan)
        position = GraphPosition(plan.workflow, plan.intention, plan.seed)
        async with Speculation() as ahead:
            talk = _Talk(plan, position, told, ahead, self._unfinished.take(plan))
            try:
                reason = await self._play_structured(talk) if plan.structured else await self._play_free(talk)
            except (ModelUnavailable, ModelRefused):
                self._unfinished.keep(plan, talk.heard)
                raise
            talk.ledger.book(Part.AGENT, plan.agent_model, await ahead.settle(talk.turns), wasted=True)
        return Dialogue(
            id=plan.dialogue_id,
            campaign_id=plan.campaign_id,
            round=plan.round,
            split=plan.split,
            index=plan.index,
            turns=tuple(talk.turns),
            end_reason=reason,
            provenance=_provenance(plan, self._managers[plan.preset].calibration_of(plan.manager_model)),
            facts=position.facts,
            usage=talk.ledger.accounts,
        )

    def _with_models(self, plan: Plan) -> Plan:
        client_model = plan.client_model or self._client.default_model
        return replace(
            plan,
            client_model=client_model,
            agent_model=plan.agent_model or self._agent.default_model,
            manager_model=plan.manager_model or self._managers[plan.preset].default_model(client_model),
        )

    async def _play_structured(self, talk: _Talk) -> EndReason:
        position = talk.position
        for turn in position.enter():
            await talk.add(turn)
        cue = Cue(say_now(position.reference), position.name)
        for _ in range(talk.plan.max_turns):
            if not await self._agent_speaks(talk, cue):
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
                cue = Cue(say_now(position.reference), position.name)
                continue
            talk.stray += 1
            if talk.stray > talk.plan.recoveries:
                return EndReason.DERAILED
            cue = self._managers[talk.plan.preset].recover(verdict, position)
        return EndReason.TURN_LIMIT

    async def _play_free(self, talk: _Talk) -> EndReason:
        """Without structured prompting: the agent is told nothing, the graph is not walked, only the end is watched."""
        for _ in range(talk.plan.max_turns):
            if not await self._agent_speaks(talk, Cue("", "")):
                return EndReason.SILENT
            verdict = await self._client_replies(talk, None)
            if verdict is None:
                return EndReason.SILENT
            if verdict.has_left:
                return EndReason.CLIENT_LEFT
        return EndReason.TURN_LIMIT

    async def _agent_speaks(self, talk: _Talk, cue: Cue) -> bool:
        ask = _agent_ask(talk.plan, talk.history, cue.instruction, len(talk.turns))
        spoken = await self._say(talk, self._agent, ask)
        talk.book(Part.AGENT, talk.plan.agent_model, spoken)
        if not spoken.text:
            talk.bear(spoken)
            return False
        turn = _turn(Role.AGENT, spoken, spoken.whole_usage, cue.node, instruction=cue.instruction, again=cue.again)
        await talk.add(turn)
        return True

    async def _client_replies(self, talk: _Talk, node: SayNode | None) -> Verdict | None:
        """What the client's reply to a node, if there is one, means; None when the client says nothing usable."""
        reply = await self._client_speaks(talk)
        if not reply.text:
            talk.bear(reply)
            return None
        is_decided = len(talk.turns) in talk.heard.weighed
        if self._speculate and node is not None and talk.agent_turns < talk.plan.max_turns and not is_decided:
            self._speak_ahead(talk, reply, node)
        return await self._weigh(talk, reply, node)

    def _speak_ahead(self, talk: _Talk, reply: Spoken, node: SayNode) -> None:
        """Ask the agent for its turn after the edge that the reply will most likely be taken for."""
        position = talk.position.fork()
        calls = position.follow(likely_edge(reply.text, node, position.facts))
        history = [*talk.history, Utterance(Role.CLIENT, reply.text), *(Utterance(Role.TOOL, c.text) for c in calls)]
        ask = _agent_ask(talk.plan, history, say_now(position.reference), len(history))
        talk.ahead.begin(self._agent, ask)

    async def _client_speaks(self, talk: _Talk) -> Spoken:
        plan = talk.plan
        messages = PROMPTS[plan.preset].client(plan.workflow, plan.persona, plan.intention, talk.history)
        ask = Ask(Role.CLIENT, plan.client_model, messages, plan.sampling, _seed(plan, len(talk.turns)), plan.caller)
        spoken = await self._say(talk, self._client, ask)
        talk.book(Part.CLIENT, plan.client_model, spoken)
        return spoken

    async def _say(self, talk: _Talk, chat: ChatModel, ask: Ask) -> Spoken:
        """The answer to `ask`: heard before, or asked for ahead, or now."""
        place = len(talk.turns)
        spoken = talk.heard.spoken.get(place)
        if spoken is None:
            spoken = await talk.ahead.claim(ask, place) if ask.speaker is Role.AGENT else None
            spoken = talk.heard.spoken[place] = spoken or await speak(chat, ask)
        return spoken

    async def _weigh(self, talk: _Talk, reply: Spoken, node: SayNode | None) -> Verdict:
        """Ask the manager about the client's reply, and take the reply into the dialogue with the answers."""
        plan, position, place = talk.plan, talk.position, len(talk.turns)
        weighed = talk.heard.weighed.get(place)
        if weighed is None:
            history = [*talk.history, Utterance(Role.CLIENT, reply.text)]
            scene = Scene(history, node, plan.workflow, position.facts, plan.manager_model, plan.caller)
            weighed = talk.heard.weighed[place] = await self._managers[plan.preset].weigh(scene)
        verdict, answers = weighed
        talk.ledger.book(Part.MANAGER, plan.manager_model, answers.usage)
        answered = position.name if node is not None else ""
        usage = reply.whole_usage + answers.usage
        await talk.add(_turn(Role.CLIENT, reply, usage, answered, decisions=tuple(answers.decisions.values())))
        return verdict


def _agent_ask(plan: Plan, history: Sequence[Utterance], instruction: str, place: int) -> Ask:
    messages = PROMPTS[plan.preset].agent(plan.workflow, history, instruction)
    return Ask(Role.AGENT, plan.agent_model, messages, plan.sampling, _seed(plan, place), plan.caller)


def _seed(plan: Plan, place: int) -> int:
    """Another for every turn of the dialogue and every try, the same in every replay.

    The answer is the same too where a server draws each request from a generator of its own. `transformers serve` seeds
    the one of its process, so there only requests that come one at a time are answered alike.
    """
    return (plan.seed * 1_000_003 + place * 10) % 2**31


def _turn(
    role: Role,
    spoken: Spoken,
    usage: Usage,
    node: str,
    *,
    instruction: str = "",
    again: bool = False,
    decisions: tuple[Decision, ...] = (),
) -> Turn:
    return Turn(
        role,
        spoken.text,
        node=node,
        instruction=instruction,
        decisions=decisions,
        repairs=spoken.repairs,
        again=again,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        seconds=usage.seconds,
    )


def _provenance(plan: Plan, manager_calibration: str) -> Provenance:
    return Provenance(
        workflow_id=plan.workflow.id,
        workflow_version=plan.workflow.version,
        persona_id=plan.persona.id,
        persona_version=plan.persona.version,
        intention_id=plan.intention.id,
        prompts_version=PROMPTS[plan.preset].version,
        seed=plan.seed,
        structured=plan.structured,
        client_model=plan.client_model,
        agent_model=plan.agent_model,
        manager_model=plan.manager_model,
        adapter_id=plan.adapter_id,
        adapter_fingerprint=plan.adapter_fingerprint,
        manager_calibration=manager_calibration,
        preset=plan.preset,
    )
