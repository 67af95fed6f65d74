"""Model servers: chat, typed decisions, and whether the adapter that answers is the one that was asked for."""

from duologue.models.chat import ChatModel, Completion
from duologue.models.decisions import DecisionModel
from duologue.models.server import Endpoint, ModelRefused, ModelServer, ModelUnavailable

__all__ = [
    "ChatModel",
    "Completion",
    "DecisionModel",
    "Endpoint",
    "ModelRefused",
    "ModelServer",
    "ModelUnavailable",
]
