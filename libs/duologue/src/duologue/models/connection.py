"""One model server over HTTP: a pool of connections, time limits, and errors by what should happen next."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
import orjson
from prometheus_client import Counter, Histogram

from duologue.core.usage import Usage
from duologue.models.endpoint import Endpoint
from duologue.telemetry import carried, observe

_REQUESTS = Counter("duologue_model_requests_total", "Requests to model servers.", ("server", "path", "outcome"))
_SECONDS = Histogram(
    "duologue_model_request_seconds",
    "Time of a request to a model server.",
    ("server", "path"),
    buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
_TOKENS = Counter(
    "duologue_model_tokens_total",
    "Tokens that model servers told of: read (prompt, of which cached were in the prefix cache) and written.",
    ("server", "kind"),
)

# The server is there but can't take the request now, or a proxy before it lost the server. 424 is TGI's for a shard
# that is dead or failed.
_PASSING = {408, 424, 425, 429, 500, 502, 503, 504}
# Nobody there, or none in time: what comes back after one of these may be another server, behind a proxy too.
GONE = (0, 408, 502, 503, 504)
_SHOWN_OF_AN_ANSWER = 300
_SHAPES: dict[type, str] = {dict: "an object", list: "an array"}


class ModelUnavailable(Exception):
    """The server can't answer now. `retry_after` in seconds, where it named a time.

    `status` is HTTP's, 0 for none, and `answer` what came with it.
    """

    def __init__(self, message: str, retry_after: float = 0.0, status: int = 0, answer: bytes = b"") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status
        self.answer = answer

    def again(self) -> ModelUnavailable:
        """The same for another request that waited for the same answer: raised twice, one would gather both traces."""
        return ModelUnavailable(str(self), self.retry_after, self.status, self.answer)


class ModelRefused(Exception):
    """The server answered that it will not do this, and won't another time either. `status` is HTTP's."""

    def __init__(self, message: str, status: int, answer: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered: JSON, and its headers."""

    content: Any
    headers: Mapping[str, str]


class _Path:
    """One path of a server: its URL and its metrics, looked up once instead of with every request."""

    def __init__(self, server: str, path: str) -> None:
        self.url = server + path
        self.seconds = _SECONDS.labels(server, path)
        self.ok, self.unavailable, self.refused = (
            _REQUESTS.labels(server, path, outcome) for outcome in ("ok", "unavailable", "refused")
        )


class Connection:
    """A pooled session to one server. Use as an async context manager."""

    def __init__(self, url: str, endpoint: Endpoint) -> None:
        self.url = url
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._paths: dict[str, _Path] = {}
        self._limit = aiohttp.ClientTimeout(total=endpoint.timeout_seconds, sock_connect=endpoint.connect_seconds)
        self._tokens = {kind: _TOKENS.labels(url, kind) for kind in ("prompt", "cached", "completion")}

    async def __aenter__(self) -> Connection:
        key = self._endpoint.api_key
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key.get_secret_value()}"
        self._session = aiohttp.ClientSession(
            # One more than requests at once: the server is asked how it fares when it has the most to do.
            connector=aiohttp.TCPConnector(limit=self._endpoint.connections + 1, keepalive_timeout=60),
            headers=headers,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: Mapping[str, Any], shape: type = dict) -> Reply:
        """The answer, which is JSON of that shape.

        Raises `ModelUnavailable` for an error that may pass, `ModelRefused` for any other bad status.
        """
        known = self._paths.get(path) or self._paths.setdefault(path, _Path(self.url, path))
        started = time.perf_counter()
        try:
            headers, content = await self._fetch("POST", known.url, self._limit, _encoded(body), carried())
            reply = Reply(_decoded(known.url, content, shape), headers)
        except ModelUnavailable:
            known.unavailable.inc()
            raise
        except ModelRefused:
            known.refused.inc()
            raise
        finally:
            observe(known.seconds, time.perf_counter() - started)
        known.ok.inc()
        return reply

    async def order(self, path: str, body: Mapping[str, Any]) -> None:
        """Have the server do something. What it says to that is not read; raises as `post` does; not counted."""
        await self._fetch("POST", self.url + path, self._limit, _encoded(body))

    async def get(self, path: str, seconds: float) -> bytes:
        """The body of a plain GET, within so many seconds. Raises as `post` does; not counted."""
        _, content = await self._fetch("GET", self.url + path, aiohttp.ClientTimeout(total=seconds))
        return content

    def count(self, usage: Usage) -> None:
        """Of an answer, what the server told of its tokens."""
        self._tokens["prompt"].inc(usage.prompt_tokens)
        self._tokens["cached"].inc(usage.cached_tokens)
        self._tokens["completion"].inc(usage.completion_tokens)

    async def _fetch(
        self,
        method: str,
        url: str,
        limit: aiohttp.ClientTimeout,
        payload: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], bytes]:
        if self._session is None:
            raise RuntimeError("the model server is not open")
        try:
            async with self._session.request(method, url, data=payload, timeout=limit, headers=headers) as response:
                content = await response.read()
        except TimeoutError as error:
            raise ModelUnavailable(f"{url} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise ModelUnavailable(f"{url}: {error}") from error
        if response.status != 200:
            shown = content[:_SHOWN_OF_AN_ANSWER].decode(errors="replace")
            message = f"{url} answered {response.status}: {shown}"
            if response.status in _PASSING:
                retry_after = _retry_after(response.headers.get("Retry-After"))
                raise ModelUnavailable(message, retry_after, response.status, content)
            raise ModelRefused(message, response.status, content)
        return response.headers, content


def _encoded(body: Mapping[str, Any]) -> bytes:
    """orjson takes a tenth of json's time, which was a twelfth of a turn's; but it is strict."""
    try:
        return orjson.dumps(body)
    except TypeError:  # half a surrogate pair, which only ASCII can carry
        return json.dumps(body).encode()


def _decoded(url: str, content: bytes, shape: type) -> Any:
    try:
        answer = orjson.loads(content)
    except ValueError:
        answer = _decoded_leniently(url, content)
    if not isinstance(answer, shape):
        raise ModelUnavailable(f"{url} answered 200 with JSON that is not {_SHAPES[shape]}")
    return answer


def _decoded_leniently(url: str, content: bytes) -> Any:
    """Some servers write NaN for a log-probability, which is no JSON."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise ModelUnavailable(f"{url} answered 200 with something that is not JSON") from error


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header; its other form, a date, counts as none."""
    return float(value) if value is not None and value.strip().isdigit() else 0.0
