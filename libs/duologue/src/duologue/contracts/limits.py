"""What the fields of messages may hold beyond what their types allow. What comes in from outside is held to it once.

The limits are wide: what a campaign file may ask for, and what comes of it, lies well within them. They keep out what
no service of ours says, and what would be stored as nonsense or worked on for ever.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from duologue.contracts.convert import UnreadableMessageError
from duologue.contracts.v1 import dialogue_pb2, events_pb2

# One message has many fields; the first few faults say enough.
_TOLD_FAULTS = 3
# Of a list or a map: more turns than this no dialogue of at most a hundred turn pairs has, with all calls in between.
_MOST_ITEMS = 4000
# On the wire: its tag and its length or value.
_FEWEST_ITEM_BYTES = 2
_SHOWN_CHARACTERS = 40
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Limit(Protocol):
    """What the values of a field have in common."""

    def fault(self, value: Any) -> str:
        """What is wrong with a value, to be read after the name of its field; empty when nothing is."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `low` to `high`, both included."""

    low: float
    high: float

    def fault(self, value: float) -> str:
        if self.low <= value <= self.high:  # NaN is nowhere
            return ""
        return f"is {value}, should be from {self.low:,} to {self.high:,}"


@dataclass(frozen=True, slots=True)
class Text:
    """At most `longest` characters; with `without_nul` fit for a text column of PostgreSQL, which takes no NUL."""

    longest: int = 65_536
    without_nul: bool = False

    def fault(self, value: str) -> str:
        if len(value) > self.longest:
            return f"has {len(value):,} characters, at most {self.longest:,} are allowed"
        return "holds a NUL character" if self.without_nul and "\0" in value else ""


@dataclass(frozen=True, slots=True)
class Name:
    """Letters, digits, ".", "_" and "-", a letter or digit first: fit for a key, a folder and a column."""

    longest: int
    may_be_empty: bool = False

    def fault(self, value: str) -> str:
        if (not value and self.may_be_empty) or (len(value) <= self.longest and _NAME.fullmatch(value)):
            return ""
        return f"is {_shown(value)}, should be 1 to {self.longest} letters, digits, '.', '_' and '-'"


_ID = Name(36)
_SHORT_NAME = Name(64)
_LONG_NAME = Name(200)
_COUNT = Number(0, 2**31 - 1)
_FROM_ONE = Number(1, 2**31 - 1)
_SHARE = Number(0, 1)
_FINITE = Number(-sys.float_info.max, sys.float_info.max)
_ANYTHING = None
# A hundred days; a request may be repeated for hours, a training runs for days.
_SECONDS = Number(0, 8_640_000)

# Texts have none but that of the whole record; who stores one says what it may be.
_BY_TYPE: Mapping[int, Limit] = {
    FieldDescriptor.CPPTYPE_DOUBLE: _FINITE,
    FieldDescriptor.CPPTYPE_INT32: _COUNT,
    FieldDescriptor.CPPTYPE_INT64: _COUNT,
}
# Fields with other limits than those of their type.
_OF_MESSAGE: Mapping[type[Message], Mapping[str, Limit | None]] = {
    dialogue_pb2.Decision: {"probabilities": _SHARE},
    dialogue_pb2.Turn: {"seconds": _SECONDS},
    dialogue_pb2.Provenance: {"seed": _ANYTHING, "adapter_id": Name(200, may_be_empty=True)},
    dialogue_pb2.ModelUsage: {
        "part": Name(16, may_be_empty=True),
        "model": Text(4096, without_nul=True),
        "seconds": _SECONDS,
    },
    dialogue_pb2.Dialogue: {"id": _ID, "campaign_id": _ID, "round": _FROM_ONE, "facts": Text(10_000)},
    dialogue_pb2.Scores: dict.fromkeys(
        ("subgoals_relative", "subgoals_branch", "character_client", "character_agent"), _SHARE
    ),
    dialogue_pb2.Artifact: {"uri": Text(1024), "sha256": Name(64, may_be_empty=True)},
    dialogue_pb2.WorkflowRef: {"id": _SHORT_NAME, "version": _SHORT_NAME},
    dialogue_pb2.AdapterRef: {"id": Name(200, may_be_empty=True), "served_model": Text(4096)},
    events_pb2.Decoding: {
        "temperature": Number(0, 2),
        "top_p": Number(1e-6, 1),
        "max_tokens": Number(1, 131_072),
        "top_k": Number(0, 1_000_000),
    },
    events_pb2.Usage: {"seconds": _SECONDS},
    events_pb2.RolePlay: {"max_turns": Number(1, 1000), "recoveries": Number(0, 1000)},
    events_pb2.DialogueRequested: {
        "dialogue_id": _ID,
        "campaign_id": _ID,
        "round": _FROM_ONE,
        "seed": _ANYTHING,
    },
    events_pb2.DialogueGenerated: {"dialogue_id": _ID},
    events_pb2.DialogueScored: {"dialogue_id": _ID},
    events_pb2.DialogueFiltered: {
        "dialogue_id": _ID,
        "campaign_id": _ID,
        "round": _FROM_ONE,
        "reason": Text(10_000, without_nul=True),
        "dropped_by": Name(64, may_be_empty=True),
    },
    events_pb2.DatasetSealed: {"dataset_id": _LONG_NAME, "campaign_id": _ID, "round": _FROM_ONE},
    events_pb2.TrainingRequested: {
        "training_id": _LONG_NAME,
        "campaign_id": _ID,
        "round": _FROM_ONE,
        "adapter_id": _LONG_NAME,
        "base_model": Text(4096, without_nul=True),
        "rank": Number(1, 4096),
        "alpha": Number(1, 65_536),
        "learning_rate": Number(1e-12, 1),
        "weight_decay": _SHARE,
        "batch_size": Number(1, 65_536),
        "epochs": Number(1, 1000),
        "warmup_steps": Number(0, 1_000_000),
        "max_tokens": Number(1, 1_048_576),
    },
    events_pb2.TrainingCompleted: {
        "training_id": _LONG_NAME,
        "campaign_id": _ID,
        "round": _FROM_ONE,
        "error": Text(without_nul=True),
        "first_loss": _ANYTHING,  # a training that goes astray ends with a loss that is no number
        "last_loss": _ANYTHING,
        "seconds": _SECONDS,
    },
    events_pb2.AdapterReleased: {
        "agent": _SHORT_NAME,
        "campaign_id": Name(36, may_be_empty=True),
        "canary_share": _SHARE,
    },
    events_pb2.CampaignCancelled: {"campaign_id": _ID},
}
_BY_FIELD = {message.DESCRIPTOR.full_name: limits for message, limits in _OF_MESSAGE.items()}
# Pairs of fields that name the same thing.
_SAME: Mapping[str, tuple[str, str]] = {
    message.DESCRIPTOR.full_name: ("dialogue_id", "dialogue.id")
    for message in (events_pb2.DialogueGenerated, events_pb2.DialogueScored)
}


def check_limits(message: Message) -> None:
    """Raises `UnreadableMessageError` that names the fields, where each stands and what it should hold."""
    fields = _fields_of(message.DESCRIPTOR, message.ByteSize() < _MOST_ITEMS * _FEWEST_ITEM_BYTES)
    if not (_is_sound(message, fields) and _names_one_thing(message)):
        raise UnreadableMessageError("; ".join(islice(_faults(message, fields, ""), _TOLD_FAULTS)))


@dataclass(frozen=True, slots=True)
class _Field:
    """`limit`: of its value, its items or its map's values. `fields`: of that, where it is a message."""

    name: str
    is_map: bool
    is_repeated: bool
    limit: Limit | None
    fields: tuple[_Field, ...]


@cache
def _fields_of(descriptor: Descriptor, is_small: bool) -> tuple[_Field, ...]:
    """Those that are limited, or have fields that are. `is_small`: no list or map in it can have too many items."""
    own = _BY_FIELD.get(descriptor.full_name, {})
    fields = []
    for field in descriptor.fields:
        entry = field.message_type
        is_map = entry is not None and entry.GetOptions().map_entry
        valued = entry.fields_by_name["value"] if entry is not None and is_map else field
        limit = own[field.name] if field.name in own else _BY_TYPE.get(valued.cpp_type)
        inner = _fields_of(valued.message_type, is_small) if valued.message_type is not None else ()
        if limit or inner or (field.is_repeated and not is_small):
            fields.append(_Field(field.name, is_map, field.is_repeated, limit, inner))
    return tuple(fields)


def _is_sound(message: Message, fields: tuple[_Field, ...]) -> bool:
    """Whether there are no faults. Every message that comes in is asked, so this makes no words."""
    for field in fields:
        value = getattr(message, field.name)
        if not field.is_repeated:
            if not _is_sound_value(value, field):
                return False
        elif len(value) > _MOST_ITEMS:
            return False
        elif field.limit or field.fields:
            for item in value:
                if not _is_sound_value(value[item] if field.is_map else item, field):
                    return False
    return True


def _is_sound_value(value: Any, field: _Field) -> bool:
    return _is_sound(value, field.fields) if field.limit is None else not field.limit.fault(value)


def _names_one_thing(message: Message) -> bool:
    same = _SAME.get(message.DESCRIPTOR.full_name)
    return same is None or _at(message, same[0]) == _at(message, same[1])


def _faults(message: Message, fields: tuple[_Field, ...], path: str) -> Iterator[str]:
    for field in fields:
        value = getattr(message, field.name)
        if not field.is_repeated:
            yield from _faults_of_value(value, field, path, "")
        elif len(value) > _MOST_ITEMS:
            yield f"{path}{field.name} has {len(value):,} items, at most {_MOST_ITEMS:,} are allowed"
        elif field.limit or field.fields:
            for key, item in value.items() if field.is_map else enumerate(value):
                yield from _faults_of_value(item, field, path, f"[{key!r}]")
    if not _names_one_thing(message):
        one, other = _SAME[message.DESCRIPTOR.full_name]
        yield f"{one} is {_shown(_at(message, one))}, {other} is {_shown(_at(message, other))}"


def _faults_of_value(value: Any, field: _Field, path: str, place: str) -> Iterator[str]:
    if field.limit is None:
        yield from _faults(value, field.fields, f"{path}{field.name}{place}.")
    elif fault := field.limit.fault(value):
        yield f"{path}{field.name}{place} {fault}"


def _at(message: Any, path: str) -> str:
    for name in path.split("."):
        message = getattr(message, name)
    return str(message)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")
