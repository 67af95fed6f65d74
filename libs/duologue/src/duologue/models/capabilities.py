"""What a server is and can do, found by asking it: /info is TGI's alone, /v1/models names its owner elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from duologue.models.connection import GONE, Connection, ModelRefused, ModelUnavailable
from duologue.models.dialects import OTHER, Dialect, Gauges, dialect_of

# A server that is there needs no time to say what it is.
PROBE_SECONDS = 3.0
_TGI_ROUTER = "text-generation-router"
TGI_GAUGES = Gauges(running="tgi_batch_current_size", waiting="tgi_queue_size")
# Not even what it is can be told from these: it starts, or has too much to do.
_NOT_NOW = (*GONE, 429)
# The name by which TGI knows its model in its chat API; any other is an adapter's there.
TGI_BASE = "tgi"
TGI_TOP_TOKENS = 5  # its router refuses more


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is known of a server.

    `models`: those that it lists. `max_tokens`: of prompt and answer together, 0 where it does not tell.
    `top_logprobs`: the most that it tells for a token, 0 for none. `most_stops`: stop sequences in one request.
    `most_requests`: what it takes at once before it answers 429, 0 where it does not tell.
    """

    server: str
    api: Literal["tgi", "openai"]
    models: tuple[str, ...] = ()
    max_tokens: int = 0
    has_patterns: bool = False
    top_logprobs: int = 0
    most_stops: int = 4
    most_requests: int = 0
    loads_adapters: bool = False
    gauges: Gauges | None = None
    dialect: Dialect = OTHER


class _Info(BaseModel):
    """TGI's /info."""

    model_config = ConfigDict(extra="ignore")

    router: str
    model_id: str
    version: str
    max_total_tokens: int
    max_stop_sequences: int
    max_concurrent_requests: int


class _Meta(BaseModel):
    """llama.cpp's: the context that it was started with."""

    model_config = ConfigDict(extra="ignore")

    n_ctx: int | None = None


class ListedModel(BaseModel):
    """A model in /v1/models. vLLM lists its adapters beside their base model."""

    model_config = ConfigDict(extra="ignore")

    id: str
    owned_by: str = ""
    max_model_len: int | None = None
    meta: _Meta | None = None

    @property
    def max_tokens(self) -> int:
        """Of prompt and answer together; 0 where it is not told, as by Ollama, OpenAI and `transformers serve`."""
        return self.max_model_len or (self.meta and self.meta.n_ctx) or 0


class _Models(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: list[ListedModel]


async def probe(connection: Connection, api: Literal["auto", "tgi", "openai"], model: str) -> Capabilities:
    """Ask a server what it is. Raises `ModelUnavailable` when it does not answer, or not as `api` does."""
    if api != "openai":
        info = await _info(connection)
        if info is not None:
            return Capabilities(
                f"TGI {info.version}",
                "tgi",
                models=(info.model_id,),
                max_tokens=info.max_total_tokens,
                has_patterns=True,
                top_logprobs=TGI_TOP_TOKENS,
                most_stops=info.max_stop_sequences,
                most_requests=info.max_concurrent_requests,
                gauges=TGI_GAUGES,
            )
        if api == "tgi":
            raise ModelUnavailable(f"{connection.url}/info does not answer as TGI's does")
    listed = await listed_models(connection)
    dialect = dialect_of(listed[0].owned_by, listed[0].id) if listed else OTHER
    lengths = {entry.id: entry.max_tokens for entry in listed}
    only = next(iter(lengths.values())) if len(lengths) == 1 else 0  # llama.cpp serves it by whatever name
    return Capabilities(
        dialect.name,
        "openai",
        models=tuple(lengths),
        max_tokens=lengths.get(model, only),
        has_patterns=bool(dialect.pattern),
        top_logprobs=dialect.top_logprobs,
        loads_adapters=dialect.loads_adapters,
        gauges=dialect.gauges,
        dialect=dialect,
    )


async def _info(connection: Connection) -> _Info | None:
    """TGI's description of itself; None from any other server."""
    try:
        info = _Info.model_validate_json(await connection.get("/info", PROBE_SECONDS))
    except (ModelRefused, ValidationError):
        return None
    except ModelUnavailable as error:
        if error.status in _NOT_NOW:
            raise
        return None  # some servers answer 500 for a path that they do not know
    return info if info.router == _TGI_ROUTER else None


async def listed_models(connection: Connection) -> list[ListedModel]:
    """The models that a server lists; none where it keeps no such list, or not for us."""
    try:
        return _Models.model_validate_json(await connection.get("/v1/models", PROBE_SECONDS)).data
    except (ModelRefused, ValidationError):
        return []
    except ModelUnavailable as error:
        if error.status in _NOT_NOW:
            raise
        return []  # `transformers serve` answers 500 until it has loaded a model
