"""Is the adapter that answers the one that was asked for?

A model server that does not know an adapter may serve the base model without a word. Training therefore records what
base and adapter answer greedily to some probes; whoever is about to use the adapter asks the server the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from duologue.core.prompts import Message
from duologue.models.completion import GREEDY, ChatRequest, Completion
from duologue.models.connection import ModelUnavailable


class Probe(BaseModel):
    """A prompt, and the greedy answers to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: list[Message]
    base: str
    adapter: str


class Fingerprint(BaseModel):
    """Probes of one adapter. Those that base and adapter answer alike tell nothing and are not asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(ge=1, le=256)
    probes: list[Probe]

    @property
    def telling(self) -> list[Probe]:
        return [probe for probe in self.probes if probe.base.strip() != probe.adapter.strip()]


class WrongAdapter(ModelUnavailable):
    """The server answers the probes as another model would. It may pass: somebody mends the server."""


async def check_adapter(
    complete: Callable[[ChatRequest], Awaitable[Completion]], served_model: str, fingerprint: Fingerprint
) -> None:
    """Raises `WrongAdapter` unless most telling probes are answered as the adapter answers them.

    Greedy answers are stable on one server but may differ between two kinds of arithmetic after a near tie, hence
    "most". An adapter that answers every probe as its base does can't be told from it, and is not refused for that.
    """
    sampling = replace(GREEDY, max_tokens=fingerprint.max_tokens)
    telling = fingerprint.telling
    alike = 0
    for probe in telling:
        answer = await complete(ChatRequest(probe.messages, sampling, served_model))
        alike += answer.text.strip() == probe.adapter.strip()
    if telling and alike * 2 <= len(telling):
        raise WrongAdapter(
            f"{served_model} answered {alike} of {len(telling)} probes as the adapter does: another model is served"
        )
