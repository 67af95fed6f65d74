"""Model servers: chat, typed decisions, and whether the adapter that answers is the one that was asked for."""

from duologue.models.chat import ChatModel
from duologue.models.completion import Caller, Completion, Sampling
from duologue.models.connection import ModelRefused, ModelUnavailable
from duologue.models.decisions import DecisionModel
from duologue.models.endpoint import Endpoint
from duologue.models.gate import Gates
from duologue.models.server import ModelServer

__all__ = [
    "Caller",
    "ChatModel",
    "Completion",
    "DecisionModel",
    "Endpoint",
    "Gates",
    "ModelRefused",
    "ModelServer",
    "ModelUnavailable",
    "Sampling",
]
