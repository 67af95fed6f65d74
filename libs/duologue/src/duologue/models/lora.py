"""Adapters that a server loads when it is asked to, as vLLM does.

The name of an adapter is that of one version: a server that loads other weights under a name that it had before may go
on answering out of what its prefix cache keeps of the old ones (vllm-project/vllm issue 42125). So nothing is loaded in
place, and what is not right under its name is left to a person.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from duologue.models.capabilities import listed_models
from duologue.models.connection import Connection, ModelRefused, ModelUnavailable
from duologue.models.fingerprint import WrongAdapter

log = structlog.get_logger(__name__)

# What this process loaded is unloaded when it was not asked for in so long; whoever still needs it loads it again. An
# adapter in use is looked at every few minutes.
IDLE_SECONDS = 900.0
_LOAD, _UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
_NEEDS = "vLLM needs --enable-lora, --max-lora-rank of at least the adapter's, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
_LOADING_FAILED = 500  # vLLM's status for weights that it can't use, as of too high a rank


class LoadedAdapters:
    """The adapters that this process had one server load. `artifacts`: where that server sees the artifact store."""

    def __init__(self, connection: Connection, artifacts: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._artifacts = artifacts.rstrip("/")
        self._clock = clock
        self._used: dict[str, float] = {}

    async def load(self, name: str, folder: str) -> None:
        """Have the server load an adapter that it does not list, and unload those that are not used any more.

        `folder`: of the weights, in the artifact store. Raises `WrongAdapter` when the server can't.
        """
        if name not in await self._listed():
            await self._load(name, f"{self._artifacts}/{folder}")
            self._used[name] = self._clock()
        elif name in self._used:
            self._used[name] = self._clock()
        await self._unload_idle()

    async def _load(self, name: str, path: str) -> None:
        try:
            await self._connection.order(_LOAD, {"lora_name": name, "lora_path": path})
        except (ModelRefused, ModelUnavailable) as error:
            if isinstance(error, ModelUnavailable) and error.status != _LOADING_FAILED:
                raise
            if name not in await self._listed():  # another process may have been faster
                raise WrongAdapter(f"{name} could not be loaded from {path}: {error}. {_NEEDS}") from error
        log.info("adapter loaded", server=self._connection.url, model=name, path=path)

    async def _unload_idle(self) -> None:
        oldest = self._clock() - IDLE_SECONDS
        for name in [name for name, used in self._used.items() if used < oldest]:
            del self._used[name]
            try:
                await self._connection.order(_UNLOAD, {"lora_name": name})
            except (ModelRefused, ModelUnavailable) as error:  # it only takes room there, or is gone already
                log.warning("adapter not unloaded", server=self._connection.url, model=name, error=str(error))
            else:
                log.info("adapter unloaded", server=self._connection.url, model=name)

    async def _listed(self) -> set[str]:
        return {model.id for model in await listed_models(self._connection)}
