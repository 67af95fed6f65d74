"""A gRPC service on a free port, with the errors that every service of ours answers with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from duologue.runtime.errors import ErrorInterceptor


@asynccontextmanager
async def serving(register: Callable[[Any, Any], None], servicer: object) -> AsyncIterator[str]:
    """The address of the server."""
    server = grpc.aio.server(interceptors=[ErrorInterceptor(asyncio.Event())])
    register(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(grace=0)
