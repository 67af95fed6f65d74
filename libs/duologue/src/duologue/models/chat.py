"""Chat completions on any OpenAI-compatible server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duologue.core.prompts import Message
from duologue.models.server import ModelServer, ModelUnavailable


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote. Tokens are the server's count, 0 where it gives none; `seconds` include retries."""

    text: str
    is_cut: bool
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. A temperature of 0 is greedy."""

    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 100


class ChatModel:
    """Chat with the models of one server."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    @property
    def default_model(self) -> str:
        return self._server.endpoint.model

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        model: str = "",
        stop: Sequence[str] = (),
        seed: int | None = None,
    ) -> Completion:
        """The next message of the assistant. Raises `ModelUnavailable` or `ModelRefused`."""
        body: dict[str, Any] = {
            "model": model or self.default_model,
            "messages": messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if stop:
            body["stop"] = list(stop)
        if seed is not None:
            body["seed"] = seed
        started = time.perf_counter()
        answer = await self._server.post("/v1/chat/completions", body)
        return _completion(answer, time.perf_counter() - started)


def _completion(answer: dict[str, Any], seconds: float) -> Completion:
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"] or ""
        usage = answer.get("usage") or {}
        return Completion(
            text=str(text).encode("utf-8", "replace").decode(),  # a model may write half a surrogate pair
            is_cut=choice.get("finish_reason") == "length",
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            seconds=seconds,
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelUnavailable(f"a chat answer without a message: {error!r}") from error
