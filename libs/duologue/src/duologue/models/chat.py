"""Chat with a model, whatever serves it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from duologue.core.prompts import Message
from duologue.models.completion import NOBODY, Caller, ChatRequest, Completion, Sampling
from duologue.models.replica import Replica
from duologue.models.server import ModelServer
from duologue.models.spans import chatting, show_completion


class ChatModel:
    """A model that answers messages."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server

    @property
    def default_model(self) -> str:
        return self.server.endpoint.model

    async def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        model: str = "",
        stop: Sequence[str] = (),
        seed: int | None = None,
        caller: Caller = NOBODY,
    ) -> Completion:
        """The next message of the assistant. Raises `ModelUnavailable` or `ModelRefused`."""
        request = ChatRequest(messages, sampling, model or self.default_model, stop, seed)

        async def ask(replica: Replica) -> Completion:
            with chatting(replica.url, request, caller) as span:
                started = time.perf_counter()
                completion = await replica.complete(request)
                completion.seconds = time.perf_counter() - started
                show_completion(span, completion)
            return completion

        return await self.server.ask(caller, ask)
