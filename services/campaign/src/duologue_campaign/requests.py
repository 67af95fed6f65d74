"""Which dialogues a campaign asks for: a fair share of every workflow, intention and persona, decided by the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from duologue.contracts.convert import persona_to_proto, preset_to_proto, split_to_proto
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.campaign import Campaign
from duologue.core.dialogue import Split, dialogue_id
from duologue.core.persona import Persona
from duologue.core.workflow import Workflow


@dataclass(frozen=True)
class Cast:
    """Who talks about what."""

    workflow: Workflow
    intention_id: str
    persona: Persona


def cast_of(campaign: Campaign, split: Split, round_: int, index: int) -> Cast:
    """The cast of a dialogue.

    All combinations of a workflow's intention and a persona come once, in an order drawn for the round, before any
    comes twice. Workflows take turns, so that a short round has its share of each.
    """
    training = split is Split.TRAINING
    workflows = campaign.training_workflows if training else campaign.held_out_workflows
    personas = campaign.training_personas if training else campaign.held_out_personas
    workflow = workflows[index % len(workflows)]
    combinations = list(product(workflow.intentions, personas))
    random.Random(f"{campaign.spec.seed}/{split}/{round_}/{workflow.id}").shuffle(combinations)
    intention, persona = combinations[index // len(workflows) % len(combinations)]
    return Cast(workflow, intention.id, persona)


def training_request(
    campaign: Campaign, campaign_id: str, round_: int, index: int, adapter: dialogue_pb2.AdapterRef
) -> events_pb2.DialogueRequested:
    """The request for training dialogue `index` of a round."""
    cast = cast_of(campaign, Split.TRAINING, round_, index)
    return _request(campaign, campaign_id, round_, Split.TRAINING, index, cast, index, adapter)


def evaluation_request(
    campaign: Campaign, campaign_id: str, round_: int, index: int, arms: Sequence[dialogue_pb2.AdapterRef]
) -> events_pb2.DialogueRequested:
    """The request for evaluation dialogue `index`: pair `index // 2`, arm `index % 2`. A pair has one cast and seed."""
    pair, arm = divmod(index, len(arms))
    # The same held-out casts in every round, so that rounds can be compared.
    cast = cast_of(campaign, Split.EVALUATION, 0, pair)
    return _request(campaign, campaign_id, round_, Split.EVALUATION, index, cast, pair, arms[arm])


def _request(
    campaign: Campaign,
    campaign_id: str,
    round_: int,
    split: Split,
    index: int,
    cast: Cast,
    draw: int,
    adapter: dialogue_pb2.AdapterRef,
) -> events_pb2.DialogueRequested:
    spec = campaign.spec
    return events_pb2.DialogueRequested(
        dialogue_id=dialogue_id(campaign_id, round_, split, index),
        campaign_id=campaign_id,
        round=round_,
        split=split_to_proto(split),
        index=index,
        seed=random.Random(f"{spec.seed}/{split}/{round_}/{draw}").randrange(2**31),
        workflow=dialogue_pb2.WorkflowRef(
            id=cast.workflow.id,
            version=cast.workflow.version,
            artifact=dialogue_pb2.Artifact(uri=f"workflows/{cast.workflow.version}.json"),
        ),
        persona=persona_to_proto(cast.persona),
        intention_id=cast.intention_id,
        models=events_pb2.Models(client=spec.models.client, agent=spec.models.agent, manager=spec.models.manager),
        decoding=events_pb2.Decoding(
            temperature=spec.decoding.temperature,
            top_p=spec.decoding.top_p,
            max_tokens=spec.decoding.max_tokens,
            top_k=spec.decoding.top_k,
        ),
        role_play=events_pb2.RolePlay(
            max_turns=spec.role_play.most_turns(cast.workflow),
            recoveries=spec.role_play.recoveries,
            structured=split is Split.TRAINING or spec.evaluation.structured,
            preset=preset_to_proto(spec.preset),
        ),
        adapter=adapter,
    )
