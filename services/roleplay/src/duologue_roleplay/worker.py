"""One request for a dialogue becomes a dialogue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import Counter

from duologue.bus import Poison, Record
from duologue.bus.codec import encode
from duologue.contracts.convert import dialogue_to_proto, persona_from_proto, preset_from_proto, split_from_proto
from duologue.contracts.topics import DIALOGUE_GENERATED
from duologue.contracts.v1 import events_pb2 as pb
from duologue.core.dialogue import Dialogue, Turn
from duologue.models import Sampling
from duologue.store import WorkflowStore
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import Plan, SelfTalk

# Workflows are those that a team wrote; the rest are words of ours.
_PLAYED = Counter(
    "duologue_dialogues_played_total", "Dialogues played, by why they ended.", ("workflow", "split", "end_reason")
)


class PlayDialogue:
    """Plays what is requested."""

    def __init__(self, self_talk: SelfTalk, workflows: WorkflowStore, adapters: Adapters) -> None:
        self._self_talk = self_talk
        self._workflows = workflows
        self._adapters = adapters

    async def handle(self, event: pb.DialogueRequested) -> Sequence[Record]:
        dialogue = await self.play(event)
        _PLAYED.labels(dialogue.provenance.workflow_id, dialogue.split, dialogue.end_reason).inc()
        generated = pb.DialogueGenerated(
            dialogue_id=event.dialogue_id,
            dialogue=dialogue_to_proto(dialogue),
            workflow=event.workflow,
            persona=event.persona,
        )
        return [encode(DIALOGUE_GENERATED, generated, "roleplay")]

    async def play(
        self,
        event: pb.DialogueRequested,
        told: Callable[[Turn], Awaitable[None]] | None = None,
        deadline: float | None = None,
    ) -> Dialogue:
        """`deadline`: by the event loop's clock, where somebody waits no longer."""
        plan = await self._plan(event, deadline)
        await self._adapters.expect(event.adapter)
        return await self._self_talk.play(plan, told)

    async def _plan(self, event: pb.DialogueRequested, deadline: float | None) -> Plan:
        workflow, decoding = await self._workflows.find(event.workflow), event.decoding
        try:
            intention = workflow.intention(event.intention_id)
        except KeyError as error:
            raise Poison(str(error.args[0])) from error
        if event.role_play.max_turns < 1 or decoding.max_tokens < 1:
            raise Poison("the request has no limits: role_play.max_turns and decoding.max_tokens must be 1 or more")
        return Plan(
            dialogue_id=event.dialogue_id,
            campaign_id=event.campaign_id,
            round=event.round,
            split=split_from_proto(event.split),
            index=event.index,
            seed=event.seed,
            workflow=workflow,
            persona=persona_from_proto(event.persona),
            intention=intention,
            sampling=Sampling(decoding.temperature, decoding.top_p, decoding.max_tokens, decoding.top_k),
            max_turns=event.role_play.max_turns,
            recoveries=event.role_play.recoveries,
            structured=event.role_play.structured,
            client_model=event.models.client,
            agent_model=event.adapter.served_model or event.models.agent,
            manager_model=event.models.manager,
            adapter_id=event.adapter.id,
            adapter_fingerprint=event.adapter.fingerprint.sha256,
            preset=preset_from_proto(event.role_play.preset),
            deadline=deadline,
            begun=asyncio.get_running_loop().time(),
        )
