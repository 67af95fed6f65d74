"""Before an adapter speaks, the server must show that it is the one that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from duologue.bus import Poison, Record, Transient
from duologue.contracts.v1 import dialogue_pb2 as pb
from duologue.contracts.v1 import events_pb2
from duologue.models import ChatModel
from duologue.models.fingerprint import Fingerprint, WrongAdapter, check_adapter
from duologue.store import ArtifactStore

log = structlog.get_logger(__name__)


class AdapterCheck:
    """Checks each adapter once per process."""

    def __init__(self, agent: ChatModel, artifacts: ArtifactStore) -> None:
        self._agent = agent
        self._artifacts = artifacts
        self._checked: set[tuple[str, str]] = set()
        self._lock = asyncio.Lock()

    async def released(self, event: events_pb2.AdapterReleased) -> Sequence[Record]:
        """Check an adapter when it is released: the server loads it, and a wrong one is known before it is used."""
        await self.check(event.adapter)
        log.info("released", agent=event.agent, adapter=event.adapter.id or "base model", cause=event.cause)
        return []

    async def check(self, adapter: pb.AdapterRef) -> None:
        """Raises `Transient` while the server answers as another model; records wait until it is mended."""
        key = (adapter.served_model, adapter.fingerprint.sha256)
        if not adapter.id or key in self._checked:
            return
        async with self._lock:
            if key in self._checked:
                return
            try:
                data = self._artifacts.read(adapter.fingerprint.uri, adapter.fingerprint.sha256)
                await check_adapter(self._agent, adapter.served_model, Fingerprint.model_validate_json(data))
            except ValidationError as error:
                raise Poison(f"the fingerprint of adapter {adapter.id} is not one: {error}") from error
            except WrongAdapter as error:
                raise Transient(str(error)) from error
            self._checked.add(key)
