"""What is to be trained, and for whom: an adapter's request and the plan that was made of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from pydantic import ValidationError

from duologue.contracts.v1 import events_pb2
from duologue_training.plan import TrainingPlan


class UnreadableOrder(ValueError):
    """The text is no order."""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """All that is needed to make an adapter and to say where it comes from."""

    request: events_pb2.TrainingRequested
    plan: TrainingPlan

    @property
    def training_id(self) -> str:
        return self.request.training_id

    @property
    def sha256(self) -> str:
        """Of what is trained and where it goes: orders that differ in nothing else are one."""
        told = json.dumps([self.request.adapter_id, self.plan.model_dump_json()])
        return hashlib.sha256(told.encode()).hexdigest()

    def to_json(self) -> bytes:
        return json.dumps({"request": MessageToDict(self.request), "plan": self.plan.model_dump()}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> TrainingOrder:
        """Raises `UnreadableOrder`."""
        try:
            order = json.loads(text)
            request = ParseDict(order["request"], events_pb2.TrainingRequested())
            return cls(request, TrainingPlan.model_validate(order["plan"]))
        except (ValidationError, ParseError, ValueError, LookupError, TypeError) as error:
            raise UnreadableOrder(f"this is no order of a training: {error}") from error
