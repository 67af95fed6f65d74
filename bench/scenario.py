"""What the measurements play: one workflow of eight turn pairs and a goodbye, and as many requests for it as wanted."""

from __future__ import annotations

import json
import uuid

from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import Split, dialogue_id
from duologue.core.workflow import Workflow
from duologue.core.workflow_file import load_workflow

_TURN_PAIRS = 8
TURNS = 2 * _TURN_PAIRS + 1  # the agent's goodbye comes on top

_QUESTIONS = (
    "Hello, this is the bicycle workshop. Would you like to book a repair?",
    "Is it the brakes that you would like us to look at?",
    "Did you buy the bicycle here in our shop?",
    "Shall I look it up by the frame number {frame_number}?",
    "We have a free place on {day} in the morning. Does that suit you?",
    "Should we clean and oil the chain while we are at it?",
    "The repair comes to about {price}. Are you fine with that?",
    "May we call you on {phone} when it is ready?",
)
_FIRST_AFTER_THE_CALL = 4


def workflow() -> Workflow:
    """Eight questions, each in a wording for either reply to the one before, a call that is drawn, a closing line."""
    nodes: dict[str, object] = {
        "look_up": {
            "call": "look_up_bicycle",
            "arguments": {"frame_number": "{frame_number}"},
            "outcomes": {
                "found": {"to": f"agreed_{_FIRST_AFTER_THE_CALL}", "returns": {"price": "45 euros"}, "weight": 3},
                "new": {"to": f"declined_{_FIRST_AFTER_THE_CALL}", "returns": {"price": "60 euros"}},
            },
        },
        "bye": {"end": "Thank you, then everything is settled. We look forward to seeing you, goodbye!"},
    }
    for number, question in enumerate(_QUESTIONS):
        nodes[f"agreed_{number}"] = {"say": f"Very well. {question}", "replies": _replies(number)}
        if number:
            nodes[f"declined_{number}"] = {"say": f"I see, never mind. {question}", "replies": _replies(number)}
    return load_workflow(
        json.dumps(
            {
                "workflow": "bench_repair",
                "title": "Book a repair",
                "agent": {"role": "the clerk of a bicycle workshop", "persona": "I am calm and exact."},
                "intentions": [
                    {
                        "id": "squeaking_brakes",
                        "goal": "have the squeaking brakes of a city bicycle repaired",
                        "facts": {"frame_number": "FR 20417", "day": "Thursday", "phone": "555 0148"},
                    }
                ],
                "start": "agreed_0",
                "nodes": nodes,
                "anytime": {
                    "out_of_scope": {"say": "I can only help with repairs.", "when": ["Do you sell used cars?"]},
                    "one_moment": {"say": "One moment, please.", "when": ["Can you wait? The bell rings."]},
                },
            }
        )
    )


def _replies(number: int) -> dict[str, object]:
    agrees = ["Yes, that would suit me well.", "Yes, of course.", "That's right, thank you."]
    declines = ["No, I would rather not.", "No, not at all.", "I don't think so."]
    following = number + 1
    if following == len(_QUESTIONS):
        return {"agrees": {"to": "bye", "examples": agrees}, "declines": {"to": "bye", "examples": declines}}
    if following == _FIRST_AFTER_THE_CALL:
        return {"agrees": {"to": "look_up", "examples": agrees}, "declines": {"to": "look_up", "examples": declines}}
    return {
        "agrees": {"to": f"agreed_{following}", "examples": agrees},
        "declines": {"to": f"declined_{following}", "examples": declines},
    }


def requests(count: int, workflow: dialogue_pb2.WorkflowRef) -> list[events_pb2.DialogueRequested]:
    """Requests as the control plane would make them, each with another seed; no two batches share an id."""
    campaign = str(uuid.uuid4())
    return [
        events_pb2.DialogueRequested(
            dialogue_id=dialogue_id(campaign, 1, Split.TRAINING, index),
            campaign_id=campaign,
            round=1,
            split=dialogue_pb2.SPLIT_TRAINING,
            index=index,
            seed=index,
            workflow=workflow,
            persona=dialogue_pb2.Persona(
                id="retired_teacher",
                character="a retired teacher",
                description="I am polite to everybody and always say please and thank you.",
            ),
            intention_id="squeaking_brakes",
            decoding=events_pb2.Decoding(temperature=0.8, top_p=0.95, max_tokens=100),
            role_play=events_pb2.RolePlay(max_turns=_TURN_PAIRS + 1, recoveries=2, structured=True),
        )
        for index in range(count)
    ]
