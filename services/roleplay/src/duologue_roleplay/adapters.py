"""Before an adapter speaks, its servers must show that they serve the one that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import PurePosixPath

import structlog
from pydantic import ValidationError

from duologue.bus import Poison, Record
from duologue.contracts.v1 import dialogue_pb2 as pb
from duologue.contracts.v1 import events_pb2
from duologue.core.problems import InvalidInput
from duologue.models import ModelServer
from duologue.models.check import ModelCheck, check_adapter_of
from duologue.models.fingerprint import Fingerprint
from duologue.store import ArtifactDamaged, ArtifactStore

log = structlog.get_logger(__name__)


class Adapters:
    """Tells the agent's servers what to expect of each adapter that is asked for."""

    def __init__(self, agent: ModelServer, artifacts: ArtifactStore) -> None:
        self._agent = agent
        self._artifacts = artifacts
        self._known: set[tuple[str, str]] = set()

    async def released(self, event: events_pb2.AdapterReleased) -> Sequence[Record]:
        """Have an adapter shown when it is released, or is to have a share: a wrong one is known before it is used."""
        for adapter in (event.adapter, event.canary):
            await self.expect(adapter)
            if adapter.id:
                await self._agent.show(adapter.served_model)
        log.info(
            "released",
            agent=event.agent,
            adapter=event.adapter.id or "base model",
            cause=event.cause,
            canary=event.canary.id,
        )
        return []

    async def check(self, adapter: pb.AdapterRef) -> list[ModelCheck]:
        """Whether each of the agent's servers shows that it serves the adapter."""
        try:
            await self.expect(adapter)
        except (Poison, InvalidInput, ArtifactDamaged, OSError) as error:
            problem = (
                f"its fingerprint can't be read: {error}\n    See the artifact store, and {adapter.fingerprint.uri}."
            )
            return [ModelCheck("adapter", self._agent.endpoint.url, adapter.served_model, problem, seconds=0.0)]
        return await check_adapter_of("adapter", self._agent, adapter.served_model)

    async def expect(self, adapter: pb.AdapterRef) -> None:
        """From now on the adapter is asked only of servers that have shown it.

        Raises `Poison` for an adapter that can't be checked: it would answer as what it is not.
        """
        if bool(adapter.id) != bool(adapter.served_model):
            raise Poison(
                f"adapter.id is {adapter.id!r} and adapter.served_model {adapter.served_model!r}: one needs the other"
            )
        key = (adapter.served_model, adapter.fingerprint.sha256)
        if not adapter.id or key in self._known:
            return
        data = await asyncio.to_thread(self._artifacts.read, adapter.fingerprint.uri, adapter.fingerprint.sha256)
        try:
            fingerprint = Fingerprint.model_validate_json(data)
        except ValidationError as error:
            raise Poison(f"the fingerprint of adapter {adapter.id} is not one: {error}") from error
        self._agent.expect(adapter.served_model, fingerprint, _weights(adapter))
        self._known.add(key)


def _weights(adapter: pb.AdapterRef) -> str:
    """The folder of the weights, which training writes beside the fingerprint."""
    return str(PurePosixPath(adapter.fingerprint.uri).parent / "adapter")
