"""An imitation of vLLM that loads and unloads adapters as vllm/entrypoints/openai/models/serving.py does (0.32)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from duologue.models import Endpoint
from tests.support.http_app import serve

BASE = "base"


class VllmDouble:
    """Answers chat with `base`, or with what the weights of the adapter that is asked for say; see `weights`.

    `weights`: by the path that an adapter can be loaded from, its answers to the last message; "" for weights that the
    engine can't use. `allows_updating`: started with VLLM_ALLOW_RUNTIME_LORA_UPDATING. `log` tells what was loaded and
    unloaded, `asked` the models of all chat requests.
    """

    def __init__(self, weights: Mapping[str, str], *, allows_updating: bool = True) -> None:
        self.weights = dict(weights)
        self.loaded: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.url = ""
        self._allows_updating = allows_updating
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self._allows_updating:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_route("*", "/{rest:.*}", _not_found)
        self._runner, self.url = await serve(app)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def endpoint(self, **changes: Any) -> Endpoint:
        return Endpoint(**{"url": self.url, "model": BASE, "artifacts": "/mnt", "timeout_seconds": 30.0} | changes)

    async def _list(self, _: web.Request) -> web.Response:
        cards = [
            {"id": BASE, "object": "model", "owned_by": "vllm", "root": BASE, "parent": None, "max_model_len": 4096}
        ]
        cards += [
            {"id": name, "object": "model", "owned_by": "vllm", "root": path, "parent": BASE, "max_model_len": None}
            for name, path in self.loaded.items()
        ]
        return web.json_response({"object": "list", "data": cards})

    async def _load(self, http: web.Request) -> web.Response:
        body = await http.json()
        name, path = body.get("lora_name"), body.get("lora_path")
        if not name or not path:
            return _error(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.loaded and not body.get("load_inplace"):
            told = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, "
            return _error(400, "InvalidUserInput", f"{told}set 'load_inplace' to True.")
        if path not in self.weights:
            return _error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        if not self.weights[path]:
            return _error(500, "InternalServerError", "LoRA rank 64 is greater than max_lora_rank 16.")
        self.loaded[name] = path
        self.log.append(("load", name))
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, http: web.Request) -> web.Response:
        name = (await http.json()).get("lora_name")
        if name not in self.loaded:
            return _error(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
        del self.loaded[name]
        self.log.append(("unload", name))
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _chat(self, http: web.Request) -> web.Response:
        body = await http.json()
        name = body["model"]
        self.asked.append(name)
        if name != BASE and name not in self.loaded:
            return _error(404, "NotFoundError", f"The model `{name}` does not exist.")
        said = "Base." if name == BASE else self.weights[self.loaded[name]]
        message = {"role": "assistant", "content": said.format(body["messages"][-1]["content"])}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": name,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
            }
        )


async def _not_found(_: web.Request) -> web.Response:
    return web.json_response({"detail": "Not Found"}, status=404)


def _error(status: int, kind: str, message: str) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
