"""One of the servers of a model: its connection, its gate, what it is, and which adapters it is trusted with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

import structlog

from duologue.models.backends.openai import OpenAIBackend
from duologue.models.capabilities import Capabilities, probe
from duologue.models.completion import ChatRequest, Completion
from duologue.models.connection import GONE, Connection, ModelUnavailable
from duologue.models.endpoint import Endpoint
from duologue.models.fingerprint import TrainedAdapter
from duologue.models.gate import LONGEST_CLOSURE_SECONDS, Gate
from duologue.models.load import watch_load
from duologue.models.lora import LoadedAdapters
from duologue.models.template import own_template
from duologue.models.trust import Trust

log = structlog.get_logger(__name__)

# A server that was not there is left alone for so long, twice as long each time, while another one is. Then one request
# finds out whether it is back: more of them could all hang.
_REST_SECONDS = 0.5
_LONGEST_REST_SECONDS = 5.0


class Backend(Protocol):
    """A way to ask a server for a chat completion."""

    async def complete(self, request: ChatRequest) -> Completion: ...


class Replica:
    """What it is is asked with the first request, and again after it was gone: what comes back may be another.

    `expected`: what is known of an adapter, by the name that it is served under. A request for one of them is sent only
    to a server that has shown to serve it, lately.
    """

    def __init__(
        self,
        url: str,
        endpoint: Endpoint,
        gate: Gate,
        expected: Mapping[str, TrainedAdapter],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = Connection(url, endpoint)
        self.gate = gate
        self.has_systemone: bool | None = None  # found out by asking for a decision
        self._endpoint = endpoint
        self._expected = expected
        self._template = own_template(endpoint.chat_template)
        loaded = LoadedAdapters(self.connection, endpoint.artifacts, clock) if endpoint.artifacts else None
        self._trust = Trust(url, expected, loaded, clock)
        self._clock = clock
        self._known: tuple[Capabilities, Backend] | None = None
        self._asking = asyncio.Lock()
        self._unanswered: ModelUnavailable | None = None  # the last time that nobody said what it is
        self._losses = 0
        self._rests_until = 0.0
        self._is_on_trial = False
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Replica:
        await self.connection.__aenter__()
        watch = watch_load(self.gate, self.connection, lambda: self._known[0] if self._known else None)
        self._watching = asyncio.create_task(watch, name=f"load of {self.url}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self.connection.__aexit__(kind, error, traceback)

    @property
    def url(self) -> str:
        return self.connection.url

    @property
    def is_there(self) -> bool:
        """It answers, as far as is known, or it is time to find out."""
        if self.gate.is_left_alone:
            return False
        if not self._losses and not self.gate.is_closed:
            return True
        return self._clock() >= self._rests_until and not self._is_on_trial and self.gate.has_room

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Around a request; of a server that was not there, others wait for what becomes of it."""
        is_trial = self._losses > 0 and not self._is_on_trial
        self._is_on_trial |= is_trial
        try:
            yield
        finally:
            if is_trial:
                self._is_on_trial = False

    async def capabilities(self) -> Capabilities:
        """What the server is. Raises `ModelUnavailable` or `ModelRefused`."""
        capabilities, _ = self._known or await self._ask()
        return capabilities

    async def complete(self, request: ChatRequest) -> Completion:
        """The answer. Raises `ModelUnavailable` or `ModelRefused`."""
        capabilities, backend = self._known or await self._ask()
        completion = await self._trust.complete(request, capabilities, backend.complete)
        self.connection.count(completion.usage)
        return completion

    async def show(self, model: str) -> None:
        """Have the server show that it serves an adapter. Raises `WrongAdapter` if it does not."""
        capabilities, backend = self._known or await self._ask()
        await self._trust.look(model, capabilities, backend.complete)

    def answered(self) -> None:
        if self._losses:
            log.info("model server answers again", server=self.url)
        self._losses = 0

    def lost(self, error: ModelUnavailable) -> None:
        """It did not answer as a server that is there does: ask again what it is, and leave it alone for a while."""
        if error.status in GONE:
            self._known = None
            self.has_systemone = None
            self._trust.forget()
        if not self._losses:  # once, not for every request that waits for it
            log.warning("model server does not answer", server=self.url, reason=str(error))
        pause = min(_REST_SECONDS * 2.0**self._losses, _LONGEST_REST_SECONDS)
        self._rests_until = self._clock() + max(pause, min(error.retry_after, LONGEST_CLOSURE_SECONDS))
        self._losses = min(self._losses + 1, 10)

    async def _ask(self) -> tuple[Capabilities, Backend]:
        """Once for all who want to know: of a server that hangs each would wait in turn."""
        before = self._unanswered
        async with self._asking:
            if self._known is None:
                if self._unanswered is not before and self._unanswered is not None:
                    raise self._unanswered.again()
                try:
                    capabilities = await probe(self.connection, self._endpoint.server, self._endpoint.model)
                except ModelUnavailable as error:
                    self._unanswered = error
                    raise
                self._known = capabilities, self._backend(capabilities)
                if capabilities.most_requests:
                    self.gate.bound(capabilities.most_requests)
            return self._known

    def _backend(self, capabilities: Capabilities) -> Backend:
        if capabilities.api == "openai":
            return OpenAIBackend(self.connection, capabilities.dialect)
        # Its types are those of TGI's own client, which can't be installed beside a new transformers.
        from duologue.models.backends.tgi import TgiBackend

        return TgiBackend(self.connection, self._endpoint, capabilities, self._expected, self._template)
