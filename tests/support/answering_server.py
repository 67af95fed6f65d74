"""A server that answers each path as the test says, whatever it is asked, and remembers that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

from duologue.models import Endpoint
from tests.support.http_app import serve


class Asked(NamedTuple):
    path: str
    body: Any
    headers: Mapping[str, str]


class Reply(NamedTuple):
    """`content`: bytes or text as they are, anything else as JSON."""

    content: Any = b""
    status: int = 200
    headers: Mapping[str, str] = {}


Answer = Reply | Callable[[Asked], Reply]


class AnsweringServer:
    """Use as an async context manager. Paths that `answers` lacks are not there."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.requests: list[Asked] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner, self.url = await serve(app)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def endpoint(self, **changes: Any) -> Endpoint:
        return Endpoint(
            **{"url": self.url, "model": "served", "timeout_seconds": 30.0, "patience_seconds": 0.0} | changes
        )

    def asked(self, path: str) -> list[Asked]:
        return [request for request in self.requests if request.path == path]

    async def _answer(self, http: web.Request) -> web.Response:
        content = await http.read()
        asked = Asked(http.path, json.loads(content) if content else None, dict(http.headers))
        self.requests.append(asked)
        answer = self.answers.get(http.path, Reply("Not Found", 404))
        status_of = answer(asked) if callable(answer) else answer
        body = status_of.content
        if not isinstance(body, bytes):
            body = (body if isinstance(body, str) else json.dumps(body)).encode()
        return web.Response(status=status_of.status, body=body, headers=dict(status_of.headers))
