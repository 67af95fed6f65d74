"""Domain objects to messages and back. Whatever comes in from outside is checked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from duologue.contracts.v1 import dialogue_pb2 as pb
from duologue.core.dialogue import Decision, Dialogue, EndReason, Preset, Provenance, Role, Split, ToolCall, Turn
from duologue.core.persona import Persona
from duologue.core.scores import Scores
from duologue.core.usage import NOTHING, Account, Usage

T = TypeVar("T")

_ROLES = {Role.CLIENT: pb.ROLE_CLIENT, Role.AGENT: pb.ROLE_AGENT, Role.TOOL: pb.ROLE_TOOL}
_SPLITS = {Split.TRAINING: pb.SPLIT_TRAINING, Split.EVALUATION: pb.SPLIT_EVALUATION}
_PRESETS = {Preset.DUOLOGUE: pb.PRESET_UNSPECIFIED, Preset.ULMER2024: pb.PRESET_ULMER2024}
_END_REASONS = {
    EndReason.COMPLETED: pb.END_REASON_COMPLETED,
    EndReason.CLIENT_LEFT: pb.END_REASON_CLIENT_LEFT,
    EndReason.DERAILED: pb.END_REASON_DERAILED,
    EndReason.TURN_LIMIT: pb.END_REASON_TURN_LIMIT,
    EndReason.SILENT: pb.END_REASON_SILENT,
}
_ROLE_OF = {number: role for role, number in _ROLES.items()}
_SPLIT_OF = {number: split for split, number in _SPLITS.items()}
_PRESET_OF = {number: preset for preset, number in _PRESETS.items()}
_END_REASON_OF: dict[int, EndReason] = {number: reason for reason, number in _END_REASONS.items()}


class UnreadableMessageError(ValueError):
    """A message that decodes but says nothing that the domain knows."""


def dialogue_to_proto(dialogue: Dialogue) -> pb.Dialogue:
    return pb.Dialogue(
        id=dialogue.id,
        campaign_id=dialogue.campaign_id,
        round=dialogue.round,
        split=_SPLITS[dialogue.split],
        index=dialogue.index,
        turns=[turn_to_proto(turn) for turn in dialogue.turns],
        end_reason=_END_REASONS[dialogue.end_reason],
        provenance=_provenance_to_proto(dialogue.provenance),
        facts=dialogue.facts,
        usage=[usage_to_proto(account, usage) for account, usage in dialogue.usage.items()],
    )


def dialogue_from_proto(message: pb.Dialogue) -> Dialogue:
    """Raises `UnreadableMessageError` for a role, split or preset that is not known here, and for no end reason.

    An end reason of a newer version is `OTHER`: nothing is decided by it.
    """
    return Dialogue(
        id=message.id,
        campaign_id=message.campaign_id,
        round=message.round,
        split=split_from_proto(message.split),
        index=message.index,
        turns=tuple(_turn_from_proto(turn, index) for index, turn in enumerate(message.turns)),
        end_reason=_end_reason_from_proto(message.end_reason),
        provenance=_provenance_from_proto(message.provenance),
        facts=_dict(message.facts),
        usage=_accounts(message.usage),
    )


def check_dialogue(message: pb.Dialogue) -> None:
    """Raises what `dialogue_from_proto` would, and makes no dialogue of it, which takes many times as long."""
    split_from_proto(message.split)
    preset_from_proto(message.provenance.preset)
    for index, turn in enumerate(message.turns):
        _role_of_turn(turn, index)
    _end_reason_from_proto(message.end_reason)


def turn_to_proto(turn: Turn) -> pb.Turn:
    message = pb.Turn(
        role=_ROLES[turn.role],
        text=turn.text,
        node=turn.node,
        instruction=turn.instruction,
        again=turn.again,
        decisions=[
            pb.Decision(question=item.question, answer=item.answer, probabilities=item.probabilities)
            for item in turn.decisions
        ],
        repairs=turn.repairs,
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        seconds=turn.seconds,
    )
    if turn.call is not None:
        call = turn.call
        message.call.CopyFrom(
            pb.ToolCall(name=call.name, arguments=call.arguments, outcome=call.outcome, returns=call.returns)
        )
    return message


def _turn_from_proto(message: pb.Turn, index: int) -> Turn:
    role = _role_of_turn(message, index)
    call = message.call
    return Turn(
        role=role,
        text=message.text,
        node=message.node,
        instruction=message.instruction,
        again=message.again,
        decisions=tuple(Decision(item.question, item.answer, _dict(item.probabilities)) for item in message.decisions),
        call=ToolCall(call.name, _dict(call.arguments), call.outcome, _dict(call.returns))
        if role is Role.TOOL
        else None,
        repairs=tuple(message.repairs),
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        seconds=message.seconds,
    )


def usage_to_proto(account: Account, usage: Usage) -> pb.ModelUsage:
    return pb.ModelUsage(
        part=account.part,
        model=account.model,
        wasted=account.wasted,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        told_tokens=usage.told_tokens,
        cached_tokens=usage.cached_tokens,
        seconds=usage.seconds,
    )


def _accounts(messages: Iterable[pb.ModelUsage]) -> dict[Account, Usage]:
    accounts: dict[Account, Usage] = {}
    for account, usage in map(usage_from_proto, messages):
        accounts[account] = accounts.get(account, NOTHING) + usage
    return accounts


def usage_from_proto(message: pb.ModelUsage) -> tuple[Account, Usage]:
    usage = Usage(
        message.prompt_tokens,
        message.completion_tokens,
        message.told_tokens,
        message.cached_tokens,
        message.seconds,
    )
    return Account(message.part, message.model, message.wasted), usage


def _role_of_turn(message: pb.Turn, index: int) -> Role:
    role = _known(_ROLE_OF, message.role, "role")
    if message.HasField("call") != (role is Role.TOOL):
        claim = "has a call and is not a tool's" if message.HasField("call") else "is a tool's and has no call"
        raise UnreadableMessageError(f"turns[{index}] {claim}")
    return role


def _dict(items: Mapping[str, T]) -> dict[str, T]:
    """What `dict` gives, which asks a map of protobuf in a slower way."""
    return {key: items[key] for key in items}


_PROVENANCE_FIELDS = tuple(name for name in Provenance.__dataclass_fields__ if name != "preset")


def _provenance_to_proto(provenance: Provenance) -> pb.Provenance:
    fields: dict[str, Any] = {name: getattr(provenance, name) for name in _PROVENANCE_FIELDS}
    return pb.Provenance(**fields, preset=_PRESETS[provenance.preset])


def _provenance_from_proto(message: pb.Provenance) -> Provenance:
    fields: dict[str, Any] = {name: getattr(message, name) for name in _PROVENANCE_FIELDS}
    return Provenance(**fields, preset=preset_from_proto(message.preset))


def scores_to_proto(scores: Scores) -> pb.Scores:
    fields: dict[str, Any] = {**scores.as_dict(), "nodes": [node or "" for node in scores.nodes]}
    return pb.Scores(**fields)


def scores_from_proto(message: pb.Scores) -> Scores:
    return Scores(
        words=message.words,
        ngrams=message.ngrams,
        subgoals_absolute=message.subgoals_absolute,
        subgoals_relative=message.subgoals_relative,
        subgoals_branch=message.subgoals_branch,
        ended=message.ended,
        success=message.success,
        nodes=tuple(node or None for node in message.nodes),
        repeats=message.repeats,
        role_leaks=message.role_leaks,
        character_client=message.character_client if message.HasField("character_client") else None,
        character_agent=message.character_agent if message.HasField("character_agent") else None,
    )


def persona_to_proto(persona: Persona) -> pb.Persona:
    return pb.Persona(id=persona.id, character=persona.character, description=persona.description)


def persona_from_proto(message: pb.Persona) -> Persona:
    """Raises `UnreadableMessageError` for a persona without a character or description."""
    try:
        return Persona(id=message.id, character=message.character, description=message.description)
    except ValueError as error:
        raise UnreadableMessageError(f"persona {message.id!r}: {error}") from error


def split_to_proto(split: Split) -> pb.Split.ValueType:
    return _SPLITS[split]


def split_from_proto(number: int) -> Split:
    return _known(_SPLIT_OF, number, "split")


def preset_to_proto(preset: Preset) -> pb.Preset.ValueType:
    return _PRESETS[preset]


def preset_from_proto(number: int) -> Preset:
    return _known(_PRESET_OF, number, "preset")


def _end_reason_from_proto(number: int) -> EndReason:
    if number <= pb.END_REASON_UNSPECIFIED:
        raise UnreadableMessageError(f"unknown end reason {number}")
    return _END_REASON_OF.get(number, EndReason.OTHER)


def _known(table: Mapping[Any, T], number: int, noun: str) -> T:
    try:
        return table[number]
    except KeyError:
        raise UnreadableMessageError(f"unknown {noun} {number}") from None
