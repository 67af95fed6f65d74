"""Tokens that callers show: `authorization: Bearer TOKEN` in a call's metadata."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from prometheus_client import Counter

from duologue.core.problems import WrongSetting
from duologue.runtime.reloaded import Contents, Reloaded

log = structlog.get_logger(__name__)

_REFUSED = Counter("duologue_calls_refused_total", "Calls without a token that is accepted.", ("reason",))

# As RFC 6750 has it.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_SETTING = "grpc.token_file"
_HEADER = "authorization"
_SCHEME = "bearer "
# Of whom Kubernetes and load balancers are, which have nothing to show.
_OPEN = "/grpc.health.v1.Health/"


def load_tokens(file: str) -> Reloaded[tuple[str, ...]]:
    """The tokens of a file, one a line; the first is the one that we show. Lines that begin with # are for people.

    Raises `WrongSetting` for a file that can't be used.
    """

    def load(contents: Contents) -> tuple[str, ...]:
        lines = [line.strip() for line in contents[_SETTING].decode("ascii", errors="replace").splitlines()]
        tokens = tuple(line for line in lines if line and not line.startswith("#"))
        if not tokens:
            raise WrongSetting(f"{file} holds no token (setting {_SETTING})")
        if any(not _TOKEN.fullmatch(token) for token in tokens):
            raise WrongSetting(f"{file} holds something else than a token on each line (setting {_SETTING})")
        return tokens

    return Reloaded({_SETTING: file}, load)


def shown(tokens: Reloaded[tuple[str, ...]]) -> tuple[str, str]:
    """A call's metadata."""
    return _HEADER, f"Bearer {tokens.value[0]}"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Answers calls without an accepted token with UNAUTHENTICATED; health is everybody's."""

    def __init__(self, tokens: Reloaded[tuple[str, ...]]) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        details: Any = handler_call_details
        if details.method.startswith(_OPEN):
            return await continuation(details)
        given = str(dict(details.invocation_metadata).get(_HEADER, ""))
        if not given.lower().startswith(_SCHEME):
            return _refusal("no token", f"the call has no token (metadata {_HEADER}: Bearer TOKEN)")
        if not self._accepts(given[len(_SCHEME) :].strip()):
            return _refusal("unknown token", "the token is not one that this service accepts")
        return await continuation(details)

    def _accepts(self, given: str) -> bool:
        """Compares with every token, each to its end: how long it takes says nothing."""
        data = given.encode()
        return any([hmac.compare_digest(data, token.encode()) for token in self._tokens.value])  # noqa: C419


def _refusal(reason: str, details: str) -> Any:
    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        _REFUSED.labels(reason).inc()
        log.info("call refused", reason=reason, peer=context.peer())
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, details)

    # Of this kind, it answers calls of every kind at once, and reads nothing of them.
    return grpc.stream_stream_rpc_method_handler(refuse)
