"""Before an adapter speaks, the server must show that it is the one that was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from pydantic import ValidationError

from duologue.bus import Poison, Record, Transient
from duologue.contracts.v1 import dialogue_pb2 as pb
from duologue.contracts.v1 import events_pb2
from duologue.models import ChatModel
from duologue.models.fingerprint import Fingerprint, WrongAdapter, check_adapter
from duologue.store import ArtifactStore

log = structlog.get_logger(__name__)


# A server that was restarted may serve another model under the same name.
_TRUSTED_SECONDS = 600.0


class AdapterCheck:
    """Checks each adapter before its first dialogue, again every ten minutes, and once its server was not there."""

    def __init__(self, agent: ChatModel, artifacts: ArtifactStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._artifacts = artifacts
        self._clock = clock
        self._trusted_until: dict[tuple[str, str], float] = {}
        self._lock = asyncio.Lock()

    async def released(self, event: events_pb2.AdapterReleased) -> Sequence[Record]:
        """Check an adapter when it is released: the server loads it, and a wrong one is known before it is used."""
        await self.check(event.adapter)
        log.info("released", agent=event.agent, adapter=event.adapter.id or "base model", cause=event.cause)
        return []

    async def check(self, adapter: pb.AdapterRef) -> None:
        """Raises `Transient` while the server answers as another model; records wait until it is mended.

        Raises `Poison` for an adapter that can't be checked: it would answer as what it is not.
        """
        if bool(adapter.id) != bool(adapter.served_model):
            raise Poison(
                f"adapter.id is {adapter.id!r} and adapter.served_model {adapter.served_model!r}: one needs the other"
            )
        key = (adapter.served_model, adapter.fingerprint.sha256)
        if not adapter.id or self._is_trusted(key):
            return
        async with self._lock:
            if self._is_trusted(key):
                return
            try:
                data = await asyncio.to_thread(
                    self._artifacts.read, adapter.fingerprint.uri, adapter.fingerprint.sha256
                )
                await check_adapter(self._agent, adapter.served_model, Fingerprint.model_validate_json(data))
            except ValidationError as error:
                raise Poison(f"the fingerprint of adapter {adapter.id} is not one: {error}") from error
            except WrongAdapter as error:
                raise Transient(str(error)) from error
            self._trusted_until[key] = self._clock() + _TRUSTED_SECONDS

    def doubt(self) -> None:
        """Check again before the next dialogue: the server was gone, and what comes back may serve another model."""
        self._trusted_until.clear()

    def _is_trusted(self, key: tuple[str, str]) -> bool:
        return self._clock() < self._trusted_until.get(key, 0.0)
