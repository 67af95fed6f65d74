"""Which adapters a server has shown to serve. No other is asked of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

from duologue.models.capabilities import Capabilities
from duologue.models.completion import Ask, ChatRequest, Completion
from duologue.models.connection import ModelRefused, ModelUnavailable
from duologue.models.fingerprint import TrainedAdapter, WrongAdapter, check_adapter
from duologue.models.lora import LoadedAdapters

log = structlog.get_logger(__name__)

# How long an adapter is believed to be served: a server may be restarted, or reload, behind a proxy that hides it.
TRUSTED_SECONDS = 300.0
# A server that was wrong is not asked again at once: every dialogue that waits would have it answer all probes.
WRONG_SECONDS = 10.0
# What was found wrong is told for so long after it was last asked for: what waits asks every minute or so, and what was
# rolled back nobody asks for again.
TOLD_SECONDS = 900.0
_NOT_FOUND = 404
_WRONG = Gauge(
    "duologue_model_wrong_adapter",
    "1 while a server answers an adapter's probes as another model, or does not serve it.",
    ("server", "model"),
)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What a server showed, and when. `wrong` is empty when it serves the adapter."""

    adapter: TrainedAdapter
    at: float
    wrong: str


class Trust:
    """`expected`: the adapters that are known, by the names that they are served under.

    `loaded` has the server load what it lacks; None for a server that nobody asks to.
    """

    def __init__(
        self,
        url: str,
        expected: Mapping[str, TrainedAdapter],
        loaded: LoadedAdapters | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._expected = expected
        self._loaded = loaded
        self._clock = clock
        self._found: dict[str, _Finding] = {}
        self._looking = asyncio.Lock()
        self._unanswered: ModelUnavailable | None = None  # of a server that hangs each would wait in turn

    def forget(self) -> None:
        """The server was gone: what comes back may be another."""
        self._found = {name: found for name, found in self._found.items() if found.wrong}

    async def complete(self, request: ChatRequest, capabilities: Capabilities, ask: Ask) -> Completion:
        """What the server answers, once it is trusted with the adapter. Raises `WrongAdapter` for one that is not."""
        name = request.model
        if name not in self._expected:
            return await ask(request)
        await self._earn(name, capabilities, ask)
        try:
            return await ask(request)
        except ModelRefused as error:
            if error.status != _NOT_FOUND:
                raise
        # Unloaded by another process, or restarted without it.
        self._found.pop(name, None)
        await self._earn(name, capabilities, ask)
        return await ask(request)

    async def look(self, name: str, capabilities: Capabilities, ask: Ask) -> None:
        """Have the server show that it serves an adapter, unless it has lately. Raises `WrongAdapter`."""
        async with self._looking:
            if not self._is_trusted(name):
                await self._look(name, capabilities, ask)

    async def _earn(self, name: str, capabilities: Capabilities, ask: Ask) -> None:
        """As `look`, but a server that was wrong a moment ago still is."""
        if self._is_trusted(name):
            return
        before = self._unanswered
        async with self._looking:
            if self._is_trusted(name):
                return
            found = self._found.get(name)
            if found and found.wrong and self._is_of_now(found, name, WRONG_SECONDS):
                raise WrongAdapter(found.wrong)
            if self._unanswered is not before and self._unanswered is not None:
                raise self._unanswered.again()
            try:
                await self._look(name, capabilities, ask)
            except ModelUnavailable as error:
                self._unanswered = error
                raise

    async def _look(self, name: str, capabilities: Capabilities, ask: Ask) -> None:
        adapter = self._expected[name]
        _WRONG.labels(self._url, name).set_function(lambda: float(self._is_told_wrong(name)))
        try:
            if self._loaded is not None and capabilities.loads_adapters:
                await self._loaded.load(name, adapter.folder)
            await check_adapter(ask, name, adapter.fingerprint)
        except WrongAdapter as error:
            self._found[name] = _Finding(adapter, self._clock(), str(error))
            log.error("another model is served", server=self._url, model=name, found=str(error))
            raise
        self._found[name] = _Finding(adapter, self._clock(), "")

    def _is_trusted(self, name: str) -> bool:
        found = self._found.get(name)
        return found is not None and not found.wrong and self._is_of_now(found, name, TRUSTED_SECONDS)

    def _is_of_now(self, found: _Finding, name: str, seconds: float) -> bool:
        return found.adapter is self._expected[name] and self._clock() - found.at < seconds

    def _is_told_wrong(self, name: str) -> bool:
        found = self._found.get(name)
        return found is not None and bool(found.wrong) and self._clock() - found.at < TOLD_SECONDS
