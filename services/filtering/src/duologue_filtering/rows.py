"""A kept dialogue as a row of the dataset."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from duologue.core.dialogue import Dialogue, Role, Turn
from duologue.core.presets import PROMPTS
from duologue.core.scores import Scores, Utterance
from duologue.core.workflow import Workflow

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        pa.field("dialogue_id", pa.string(), nullable=False),
        pa.field("campaign_id", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("workflow_id", pa.string(), nullable=False),
        pa.field("workflow_version", pa.string(), nullable=False),
        pa.field("persona_id", pa.string(), nullable=False),
        pa.field("intention_id", pa.string(), nullable=False),
        pa.field("adapter_id", pa.string(), nullable=False),
        # The conversation as OpenAI's chat format has it: tool calls as JSON of the message's `tool_calls`.
        pa.field(
            "messages",
            pa.list_(
                pa.struct(
                    [
                        ("role", pa.string()),
                        ("content", pa.string()),
                        ("tool_calls", pa.string()),
                        ("tool_call_id", pa.string()),
                    ]
                )
            ),
        ),
        # One per agent turn: the prompt that the agent was given, and what it said. This is what training learns.
        pa.field(
            "examples",
            pa.list_(pa.struct([("prompt", pa.list_(_MESSAGE)), ("completion", pa.string()), ("node", pa.string())])),
        ),
        pa.field("scores", pa.string()),
    ]
)


def dataset_row(dialogue: Dialogue, scores: Scores, workflow: Workflow) -> dict[str, Any]:
    provenance = dialogue.provenance
    return {
        "dialogue_id": dialogue.id,
        "campaign_id": dialogue.campaign_id,
        "round": dialogue.round,
        "workflow_id": provenance.workflow_id,
        "workflow_version": provenance.workflow_version,
        "persona_id": provenance.persona_id,
        "intention_id": provenance.intention_id,
        "adapter_id": provenance.adapter_id,
        "messages": _messages(dialogue, workflow),
        "examples": _examples(dialogue, workflow),
        "scores": json.dumps(scores.as_dict()),
    }


def _messages(dialogue: Dialogue, workflow: Workflow) -> list[dict[str, str | None]]:
    system = PROMPTS[dialogue.provenance.preset].agent(workflow, [], "")[0]["content"]
    messages = [_message("system", system)]
    for index, turn in enumerate(dialogue.turns):
        messages.extend(_turn_messages(turn, f"call_{index}"))
    return messages


def _turn_messages(turn: Turn, call_id: str) -> list[dict[str, str | None]]:
    if turn.call is None:
        return [_message("assistant" if turn.role is Role.AGENT else "user", turn.text)]
    function = {"name": turn.call.name, "arguments": json.dumps(turn.call.arguments)}
    calls = json.dumps([{"id": call_id, "type": "function", "function": function}])
    answer = json.dumps({"outcome": turn.call.outcome, **turn.call.returns})
    return [
        {"role": "assistant", "content": None, "tool_calls": calls, "tool_call_id": None},
        {"role": "tool", "content": answer, "tool_calls": None, "tool_call_id": call_id},
    ]


def _message(role: str, content: str) -> dict[str, str | None]:
    return {"role": role, "content": content, "tool_calls": None, "tool_call_id": None}


def _examples(dialogue: Dialogue, workflow: Workflow) -> list[dict[str, Any]]:
    """Prompts exactly as the agent was given them, from the same function."""
    history: list[Utterance] = []
    examples = []
    for turn in dialogue.turns:
        if turn.role is Role.AGENT:
            prompt = PROMPTS[dialogue.provenance.preset].agent(workflow, history, turn.instruction)
            examples.append({"prompt": prompt, "completion": turn.text, "node": turn.node})
        history.append(Utterance(turn.role, turn.text))
    return examples
