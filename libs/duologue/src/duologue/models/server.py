"""One model server over HTTP: a pool of connections, time limits, and retries by kind of error."""

from __future__ import annotations

import asyncio
import json
import random
import time
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

_REQUESTS = Counter("duologue_model_requests_total", "Requests to model servers.", ("server", "path", "outcome"))
_SECONDS = Histogram(
    "duologue_model_request_seconds",
    "Time of a request to a model server, retries included.",
    ("server", "path"),
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)

# The server is there but can't take the request now, or a proxy before it lost the server.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE_SECONDS = 10.0
_SHOWN_OF_AN_ANSWER = 300
# json.dumps would build an encoder for every request, a tenth of the time that a prompt takes. ASCII is no slower, and
# carries half a surrogate pair, which a model may write and UTF-8 has no bytes for.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Endpoint(BaseModel):
    """Where a model is served, and how patient to be with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "http://127.0.0.1:7421",
        pattern=r"^https?://",
        description="Base URL of an OpenAI-compatible server, without /v1.",
    )
    model: str = Field("", description="Name or path that the server knows the model by.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    timeout_seconds: float = Field(120.0, gt=0, le=3600, description="For one request, from asking to the last byte.")
    connect_seconds: float = Field(3.0, gt=0, le=60, description="For opening a connection.")
    attempts: int = Field(3, ge=1, le=20, description="Tries of a request before the dialogue is put off.")
    connections: int = Field(128, ge=1, le=10_000, description="Open connections at most.")

    @field_validator("url")
    @classmethod
    def _without_credentials(cls, url: str) -> str:
        """The URL is shown in metrics, messages and logs."""
        if "@" in urlsplit(url).netloc:
            raise ValueError("the URL holds credentials: give them as api_key")
        return url


class ModelUnavailable(Exception):
    """The server can't answer now. `retry_after` in seconds, where it named a time."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelRefused(Exception):
    """The server answered that it will not do this, and won't another time either. `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Path:
    """One path of a server: its URL and its metrics, looked up once instead of with every request."""

    def __init__(self, server: str, path: str) -> None:
        self.url = server.rstrip("/") + path
        self.seconds = _SECONDS.labels(server, path)
        self.ok, self.unavailable, self.refused = (
            _REQUESTS.labels(server, path, outcome) for outcome in ("ok", "unavailable", "refused")
        )


class ModelServer:
    """A pooled session to one endpoint. Use as an async context manager."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._paths: dict[str, _Path] = {}

    async def __aenter__(self) -> ModelServer:
        key = self.endpoint.api_key
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.endpoint.connections, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(
                total=self.endpoint.timeout_seconds, connect=None, sock_connect=self.endpoint.connect_seconds
            ),
            headers=headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers.

        Raises `ModelUnavailable` when all attempts met a passing error, `ModelRefused` for any other bad status.
        """
        payload = _encode(body).encode()
        known = self._paths.get(path) or self._paths.setdefault(path, _Path(self.endpoint.url, path))
        started = time.perf_counter()
        try:
            return await self._post_patiently(known, payload)
        finally:
            known.seconds.observe(time.perf_counter() - started)

    async def _post_patiently(self, path: _Path, payload: bytes) -> dict[str, Any]:
        for attempt in range(1, self.endpoint.attempts + 1):
            try:
                answer = await self._post_once(path.url, payload)
            except ModelUnavailable as error:
                path.unavailable.inc()
                if attempt == self.endpoint.attempts:
                    raise
                await asyncio.sleep(_pause(attempt, error.retry_after))
            except ModelRefused:
                path.refused.inc()
                raise
            else:
                path.ok.inc()
                return answer
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _post_once(self, url: str, payload: bytes) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("the model server is not open")
        try:
            async with self._session.post(url, data=payload) as response:
                content = await response.read()
        except TimeoutError as error:
            raise ModelUnavailable(f"{url} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable(f"{url}: {error}") from error
        if response.status != 200:
            shown = content[:_SHOWN_OF_AN_ANSWER].decode(errors="replace")
            message = f"{url} answered {response.status}: {shown}"
            if response.status in _PASSING:
                raise ModelUnavailable(message, _retry_after(response.headers.get("Retry-After")))
            raise ModelRefused(message, response.status)
        try:
            answer = json.loads(content)
        except ValueError as error:
            raise ModelUnavailable(f"{url} answered 200 with something that is not JSON") from error
        if not isinstance(answer, dict):
            raise ModelUnavailable(f"{url} answered 200 with JSON that is not an object")
        return answer


def _pause(attempt: int, retry_after: float) -> float:
    return min(max(retry_after, 0.2 * 2.0**attempt * (0.5 + random.random())), _LONGEST_PAUSE_SECONDS)


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header; its other form, a date, counts as none."""
    return float(value) if value is not None and value.strip().isdigit() else 0.0
