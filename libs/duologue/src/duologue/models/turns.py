"""Messages as a server's chat template takes them: as they are, or in strict turns where it has refused that."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import structlog

from duologue.core.prompts import Message, in_turns
from duologue.models.connection import ModelRefused, ModelUnavailable

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
Ask = Callable[[Sequence[Message]], Awaitable[Answer]]

# What a template says of messages that it does not take: "Conversation roles must alternate", "System role not
# supported", "Only user and assistant roles are supported". It comes with 400 from vLLM and SGLang, 422 from TGI and
# 500 from llama.cpp, which is no trouble that passes.
_ABOUT_ROLES = re.compile(rb"\broles?\b", re.IGNORECASE)
_REFUSALS = (400, 422, 500)


class Turns:
    """Of one server. It learns by the first refusal which prompts have to be sent in turns."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._refused: set[tuple[bool, ...]] = set()

    async def send(self, messages: Sequence[Message], ask: Ask[Answer]) -> Answer:
        """What `ask` gives, of the messages as they are or in turns. Raises what it raises."""
        if self._refused and _kind(messages) in self._refused:
            return await ask(in_turns(messages))
        try:
            return await ask(messages)
        except (ModelRefused, ModelUnavailable) as error:
            kind = _kind(messages)
            if not any(kind) or error.status not in _REFUSALS or not _ABOUT_ROLES.search(error.answer):
                raise
            answer = await ask(in_turns(messages))
            log.warning("the chat template wants user and assistant in turns", server=self._server, said=str(error))
        self._refused.add(kind)
        return answer


def _kind(messages: Sequence[Message]) -> tuple[bool, ...]:
    """How the messages differ from strict turns: a system message, an assistant who opens, one role twice running."""
    roles = [message["role"] for message in messages]
    spoken = [role for role in roles if role != "system"]
    return (
        "system" in roles,
        spoken[:1] == ["assistant"],
        any(first == second for first, second in pairwise(spoken)),
    )
