"""Chat completions as OpenAI's: vLLM, SGLang, llama.cpp, Ollama, transformers serve, and hosted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duologue.models.completion import ChatRequest, Completion, TokenChoice, written
from duologue.models.connection import Connection, ModelUnavailable
from duologue.models.dialects import Dialect
from duologue.models.turns import Turns

_PATH = "/v1/chat/completions"


class OpenAIBackend:
    """Asks one server; what it takes beyond the standard is its dialect's."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._turns = Turns(connection.url)
        self.dialect = dialect
        self._tells_cached = False

    async def complete(self, request: ChatRequest) -> Completion:
        """The answer. Raises `ModelUnavailable` or `ModelRefused`."""
        body = _body(request, self.dialect)
        reply = await self._turns.send(
            request.messages, lambda messages: self._connection.post(_PATH, body | {"messages": messages})
        )
        try:
            completion = _completion(reply.content, self.dialect, request.stop)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ModelUnavailable(f"{self._connection.url}: a chat answer without a message: {error!r}") from error
        self._count_cached(completion)
        return completion

    def _count_cached(self, completion: Completion) -> None:
        """A server that tells how many prompt tokens it had may leave the number out when it had none, as vLLM does."""
        if completion.cached_tokens is not None:
            self._tells_cached = True
        elif self._tells_cached:
            completion.cached_tokens = 0


def _body(request: ChatRequest, dialect: Dialect) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        dialect.limit: sampling.max_tokens,
    }
    if sampling.top_k and dialect.has_top_k:
        body["top_k"] = sampling.top_k
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed
    if request.pattern and dialect.pattern:
        body |= _nested(dialect.pattern, request.pattern)
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body


def _completion(answer: Mapping[str, Any], dialect: Dialect, stops: Sequence[str]) -> Completion:
    choice = answer["choices"][0]
    usage = answer.get("usage") or {}
    return Completion(
        text=written(str(choice["message"]["content"] or ""), stops),
        is_cut=choice.get("finish_reason") == "length",
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        cached_tokens=_count(answer, dialect.cached),
        tokens=tuple(_token(token) for token in (choice.get("logprobs") or {}).get("content") or ()),
    )


def _token(token: Mapping[str, Any]) -> TokenChoice:
    """The likeliest may lack the token that was drawn."""
    told = (*(token.get("top_logprobs") or ()), token)
    return TokenChoice.of(str(token["token"]), ((str(each["token"]), each["logprob"]) for each in told))


def _nested(fields: Sequence[str], value: str) -> dict[str, Any]:
    *outer, last = fields
    body: dict[str, Any] = {last: value}
    for field in reversed(outer):
        body = {field: body}
    return body


def _count(answer: Mapping[str, Any], fields: Sequence[str]) -> int | None:
    """The number to which the fields lead, None where one of them is missing."""
    found: Any = answer
    for field in fields:
        found = found.get(field) if isinstance(found, Mapping) else None
    return None if found is None else int(found)
