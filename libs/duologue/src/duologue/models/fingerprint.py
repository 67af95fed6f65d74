"""Is the adapter that answers the one that was asked for?

A model server that does not know an adapter may serve the base model without a word. Training therefore records what
base and adapter answer greedily to some probes; whoever is about to use the adapter asks the server the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from duologue.core.prompts import Message
from duologue.models.completion import GREEDY, Ask, ChatRequest
from duologue.models.connection import ModelRefused, ModelUnavailable

_SHOWN_CHARACTERS = 80
_NO_ADMITTANCE = {401, 403}  # says nothing of the adapter


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


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """What a server is asked to show, and the folder of the weights in the artifact store, "" where nobody loads it."""

    fingerprint: Fingerprint
    folder: str = ""


class WrongAdapter(ModelUnavailable):
    """The server answers the probes as another model would, or has no such model. It may pass: somebody mends it."""


async def check_adapter(ask: Ask, served_model: str, fingerprint: Fingerprint) -> None:
    """Raises `WrongAdapter` unless most telling probes are answered as the adapter answers them.

    Greedy answers are stable on one server but may differ between two kinds of arithmetic after a near tie, hence
    "most". An adapter that answers every probe as its base does can't be told from it, and is not refused for that.
    """
    telling = fingerprint.telling
    found = [await _answer(ask, served_model, fingerprint, probe) for probe in telling]
    differing = [
        (probe, answer) for probe, answer in zip(telling, found, strict=True) if answer != probe.adapter.strip()
    ]
    if (len(telling) - len(differing)) * 2 > len(telling) or not telling:
        return
    as_base = sum(answer == probe.base.strip() for probe, answer in differing)
    probe, answer = differing[0]
    raise WrongAdapter(
        f"{served_model} answered {len(telling) - len(differing)} of {len(telling)} probes as the adapter does and "
        f"{as_base} as the base model does: another model is served. It says {_shown(answer)} where the adapter says "
        f"{_shown(probe.adapter.strip())} and the base model {_shown(probe.base.strip())}"
    )


async def _answer(ask: Ask, served_model: str, fingerprint: Fingerprint, probe: Probe) -> str:
    sampling = replace(GREEDY, max_tokens=fingerprint.max_tokens)
    try:
        return (await ask(ChatRequest(probe.messages, sampling, served_model))).text.strip()
    except ModelRefused as error:
        if error.status in _NO_ADMITTANCE:
            raise
        raise WrongAdapter(f"{served_model} is not served: {error}", status=error.status) from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")
