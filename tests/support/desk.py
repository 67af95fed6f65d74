"""A small world to test in: workflows with every kind of node, personas, a campaign over them, invented dialogues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from duologue.contracts.convert import dialogue_to_proto, persona_to_proto, scores_to_proto
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import Dialogue, EndReason, Provenance, Role, Split, ToolCall, Turn
from duologue.core.persona import Persona, load_personas
from duologue.core.prompts import PROMPTS_VERSION, say_now
from duologue.core.scores import Scores
from duologue.core.usage import Account, Part, Usage
from duologue.core.workflow import Workflow
from duologue.core.workflow_file import load_workflow

CAMPAIGN_ID = "0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d"

DESK_YAML = """\
workflow: parcel_desk
title: Find a parcel
agent: {role: a clerk at the parcel desk, persona: I like order.}
intentions:
  - id: late
    goal: find out where a parcel is
    facts: {code: PK-4471}
    outcomes: {look_up: found}
  - id: lost
    goal: report a lost parcel
    facts: {code: PK-9}
    outcomes: {look_up: missing, search: nowhere}
start: greet
nodes:
  greet:
    say: Hello, this is the parcel desk. What is your tracking code?
    replies:
      gives_code: {to: look_up, examples: ["It is {code}.", "{code}."]}
      no_code: {to: bye_no_code, examples: [I have no code.]}
  look_up:
    call: look_up
    arguments: {code: "{code}"}
    outcomes:
      found: {to: tell, weight: 3, returns: {place: the depot at North Gate}}
      missing: {to: search}
  search:
    call: search
    arguments: {what: "a parcel with code {code}"}
    outcomes:
      seen: {to: tell, returns: {place: "a shelf beside {code}"}}
      nowhere: {to: ask_sender}
  tell:
    say: Your parcel {code} lies at {place}. Is there another parcel?
    replies:
      another: {to: greet, loop: true, examples: ["Yes, there is another one."]}
      nothing: {to: bye, default: true, examples: ["No, that was all."]}
  ask_sender:
    say: We can not find it. May I ask the sender?
    replies:
      please: {to: bye_sorry, examples: ["Yes, please do."]}
  bye:
    end: Then have a nice day, goodbye!
  bye_no_code:
    end: Without a code I can do nothing, goodbye.
    outcome: failure
  bye_sorry:
    end: I write to the sender today and you will hear from us, goodbye.
    outcome: failure
anytime:
  out_of_scope: {say: That is nothing a parcel desk can do., when: ["Do you sell stamps?"]}
  person: {say: My colleague is at lunch., when: [I want to talk to somebody else.]}
  hold: {say: One moment please.}
"""
HELD_OUT_YAML = """\
workflow: shoe_shop
title: Return shoes
agent: {role: a seller of shoes, persona: I like feet.}
intentions:
  - {id: tight, goal: return shoes that are too tight}
  - {id: ugly, goal: return ugly shoes}
start: ask_why
nodes:
  ask_why:
    say: Welcome to the shoe shop, why do you bring them back?
    replies:
      says_why: {to: bye, examples: [They do not fit.]}
  bye:
    end: Here is your money, goodbye!
"""
PERSONAS_YAML = """\
personas:
  - {id: teacher, character: a retired teacher, description: I like things explained.}
  - {id: runner, character: a runner, description: I am always in a hurry.}
"""
HELD_OUT_PERSONAS_YAML = """\
personas:
  - {id: baker, character: a baker, description: I rise early.}
"""

DESK: Workflow = load_workflow(DESK_YAML)
SHOP: Workflow = load_workflow(HELD_OUT_YAML)
TEACHER, RUNNER = load_personas(PERSONAS_YAML)
BAKER: Persona = load_personas(HELD_OUT_PERSONAS_YAML)[0]

SPEC: dict[str, Any] = {
    "campaign": "desk",
    "workflows": {"training": ["desk.yaml"], "held_out": ["shop.yaml"]},
    "personas": {"training": ["people.yaml"], "held_out": ["others.yaml"]},
    "dialogues": 6,
    "concurrency": 4,
    "seed": 3,
    "training": {"min_kept": 1},
    "evaluation": {"dialogues": 20},
}
FILES = {
    "desk.yaml": DESK_YAML,
    "shop.yaml": HELD_OUT_YAML,
    "people.yaml": PERSONAS_YAML,
    "others.yaml": HELD_OUT_PERSONAS_YAML,
}


def spec_text(**changes: Any) -> str:
    """The campaign file; JSON is YAML."""
    return json.dumps(SPEC | changes)


def talk(workflow: Workflow = DESK) -> tuple[Turn, ...]:
    """A dialogue that went well, with a call in it, as role-play would have recorded it."""
    if workflow is SHOP:
        question = "Welcome to the shoe shop, why do you bring them back?"
        closing = "Here is your money, goodbye!"
        return (
            Turn(Role.AGENT, question, node="ask_why", instruction=say_now(question)),
            Turn(Role.CLIENT, "They do not fit.", node="ask_why"),
            Turn(Role.AGENT, closing, node="bye", instruction=say_now(closing)),
        )
    greeting = "Hello, this is the parcel desk. What is your tracking code?"
    answer = "Your parcel PK-4471 lies at the depot at North Gate. Is there another parcel?"
    closing = "Then have a nice day, goodbye!"
    call = ToolCall("look_up", {"code": "PK-4471"}, "found", {"place": "the depot at North Gate"})
    return (
        Turn(Role.AGENT, greeting, node="greet", instruction=say_now(greeting), prompt_tokens=30, completion_tokens=9),
        Turn(Role.CLIENT, "It is PK-4471.", node="greet", prompt_tokens=40, completion_tokens=6, seconds=0.25),
        Turn(Role.TOOL, "look_up: found", node="look_up", call=call),
        Turn(Role.AGENT, answer, node="tell", instruction=say_now(answer)),
        Turn(Role.CLIENT, "No, that was all.", node="tell"),
        Turn(Role.AGENT, closing, node="bye", instruction=say_now(closing)),
    )


def usage() -> dict[Account, Usage]:
    """What that dialogue was made with: no more than its turns tell. The manager's server does not tell what it had."""
    return {
        Account(Part.AGENT, "agent"): Usage(30, 9, 30, 12, 0.0),
        Account(Part.CLIENT, "client"): Usage(20, 4, 20, 5, 0.125),
        Account(Part.CLIENT, "client", wasted=True): Usage(5, 2, 5, 5, 0.0),
        Account(Part.MANAGER, "manager"): Usage(15, 0, 0, 0, 0.125),
    }


def dialogue(dialogue_id: str = "5d0f6d6e-3f43-5a55-8d7e-0f2f4a0f5a11", **changes: Any) -> Dialogue:
    workflow: Workflow = changes.pop("workflow", DESK)
    fields: dict[str, Any] = {
        "campaign_id": CAMPAIGN_ID,
        "round": 1,
        "split": Split.TRAINING,
        "index": 0,
        "turns": talk(workflow),
        "end_reason": EndReason.COMPLETED,
        "provenance": Provenance(
            workflow_id=workflow.id,
            workflow_version=workflow.version,
            persona_id=TEACHER.id,
            persona_version=TEACHER.version,
            intention_id=workflow.intentions[0].id,
            prompts_version=PROMPTS_VERSION,
            seed=7,
            structured=True,
            client_model="client",
            agent_model="agent",
            manager_model="manager",
        ),
        "facts": {"code": "PK-4471", "place": "the depot at North Gate"},
        "usage": usage() if workflow is DESK else {},
    }
    return Dialogue(dialogue_id, **(fields | changes))


def scores(**changes: Any) -> Scores:
    fields: dict[str, Any] = {
        "words": 20,
        "ngrams": 80,
        "subgoals_absolute": 3,
        "subgoals_relative": 0.75,
        "subgoals_branch": 1.0,
        "ended": True,
        "success": True,
        "nodes": ("greet", "tell", "bye"),
        "repeats": 0,
        "role_leaks": 0,
        "character_client": 0.5,
        "character_agent": 0.75,
    }
    return Scores(**(fields | changes))


def workflow_ref(workflow: Workflow) -> dialogue_pb2.WorkflowRef:
    uri = f"workflows/{workflow.version}.json"
    return dialogue_pb2.WorkflowRef(id=workflow.id, version=workflow.version, artifact=dialogue_pb2.Artifact(uri=uri))


def generated(spoken: Dialogue, workflow: Workflow = DESK, persona: Persona = TEACHER) -> events_pb2.DialogueGenerated:
    return events_pb2.DialogueGenerated(
        dialogue_id=spoken.id,
        dialogue=dialogue_to_proto(spoken),
        workflow=workflow_ref(workflow),
        persona=persona_to_proto(persona),
    )


def scored(spoken: Dialogue, workflow: Workflow = DESK, **changes: Any) -> events_pb2.DialogueScored:
    return events_pb2.DialogueScored(
        dialogue_id=spoken.id,
        dialogue=dialogue_to_proto(spoken),
        scores=scores_to_proto(scores(**changes)),
        workflow=workflow_ref(workflow),
        persona=persona_to_proto(TEACHER),
    )


def played(
    request: events_pb2.DialogueRequested, measured: Mapping[str, Any] | None = None
) -> events_pb2.DialogueScored:
    """What role-play and scoring make of a request: a dialogue of its workflow, with the scores that are given."""
    workflow = {DESK.id: DESK, SHOP.id: SHOP}[request.workflow.id]
    split = Split.TRAINING if request.split == dialogue_pb2.SPLIT_TRAINING else Split.EVALUATION
    spoken = dialogue(
        request.dialogue_id,
        campaign_id=request.campaign_id,
        round=request.round,
        split=split,
        index=request.index,
        workflow=workflow,
    )
    spoken = replace(spoken, provenance=replace(spoken.provenance, adapter_id=request.adapter.id))
    return scored(spoken, workflow, **(measured or {}))


def requested(**changes: Any) -> events_pb2.DialogueRequested:
    """A request for an evaluation dialogue at the desk."""
    fields: dict[str, Any] = {
        "dialogue_id": "5d0f6d6e-3f43-5a55-8d7e-0f2f4a0f5a11",
        "campaign_id": CAMPAIGN_ID,
        "round": 2,
        "split": dialogue_pb2.SPLIT_EVALUATION,
        "index": 5,
        "seed": 11,
        "workflow": workflow_ref(DESK),
        "persona": persona_to_proto(TEACHER),
        "intention_id": "late",
        "decoding": events_pb2.Decoding(temperature=0.5, top_p=0.9, max_tokens=30),
        "role_play": events_pb2.RolePlay(max_turns=8, recoveries=2, structured=True),
    }
    return events_pb2.DialogueRequested(**(fields | changes))
