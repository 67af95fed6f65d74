"""A proxy before a model server that misbehaves as real ones do: slow, silent, broken off, garbled, refusing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from tests.support.eventually import eventually
from tests.support.http_app import serve

# What the server behind would answer; asking it is left to the fault.
Ask = Callable[[], Awaitable["Answer"]]


@dataclass(frozen=True)
class Answer:
    """An answer of the server behind."""

    status: int
    body: bytes
    content_type: str


class Fault:
    """What befalls requests while it lasts."""

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        raise NotImplementedError


class Slow(Fault):
    """Answers come late."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        await asyncio.sleep(self._seconds)
        return _passed(await ask())


class SlowStart(Fault):
    """Answers come late at first, and each of the next so many a bit less so."""

    def __init__(self, seconds: float, answers: int) -> None:
        self._seconds = seconds
        self._answers = answers
        self._count = 0

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        self._count += 1
        await asyncio.sleep(self._seconds * max(1 - self._count / self._answers, 0.0))
        return _passed(await ask())


class Hang(Fault):
    """No answer ever comes, and the connection stays."""

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class Reset(Fault):
    """The connection breaks before the answer."""

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        return _broken_off(http, web.Response())


class Truncated(Fault):
    """The connection breaks in the middle of the answer."""

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        answer = await ask()
        response = web.StreamResponse(headers={"Content-Length": str(len(answer.body))})
        response.content_type = answer.content_type
        await response.prepare(http)
        await response.write(answer.body[: len(answer.body) // 2])
        return _broken_off(http, response)


class Answering(Fault):
    """Something else is answered."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._status = status
        self._body = body
        self._headers = headers

    async def strike(self, http: web.Request, ask: Ask) -> web.StreamResponse:
        return web.Response(status=self._status, body=self._body, headers=self._headers)


GARBAGE = Answering(200, b"\x00\xff<html>")
WRONG_SCHEMA = Answering(200, b'{"result": {"output": ["Yes."]}}')


def refusing(status: int, retry_after: int | None = None) -> Answering:
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return Answering(status, b'{"error":"Model is overloaded","error_type":"overloaded"}', headers)


class ModelFaultProxy:
    """Passes HTTP on to `target`; while there is a `fault`, it befalls every `each`th request instead.

    `passed` and `struck` count what was met by neither and by which; `under_way` are the requests here now.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.fault: Fault | None = None
        self.each = 1
        self.passed: list[bytes] = []
        self.struck = 0
        self.under_way = 0
        self._target = target
        self._count = 0
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        # A client that hangs up ends what is done for it here, and thereby behind.
        self._runner, self.url = await serve(app, handler_cancellation=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def has_struck(self, times: int) -> None:
        async def claim() -> bool:
            return self.struck >= times

        await eventually(claim, f"the fault has befallen {times} requests", 60)

    async def is_left(self) -> None:
        async def claim() -> bool:
            return not self.under_way

        await eventually(claim, "every client has hung up")

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        self.under_way += 1
        try:
            self._count += 1
            if self.fault is not None and self._count % self.each == 0:
                self.struck += 1
                return await self.fault.strike(http, lambda: self._ask(http, body))
            response = _passed(await self._ask(http, body))
            if http.method == "POST":
                self.passed.append(body)
            return response
        finally:
            self.under_way -= 1

    async def _ask(self, http: web.Request, body: bytes) -> Answer:
        assert self._session is not None
        headers = {"Content-Type": "application/json"}
        async with self._session.request(
            http.method, self._target + http.path_qs, data=body, headers=headers
        ) as answer:
            return Answer(answer.status, await answer.read(), answer.content_type)


def _passed(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)


def _broken_off(http: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if http.transport is not None:
        http.transport.abort()
    return response
