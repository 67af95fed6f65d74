"""Text Generation Inference by its own API, /generate, with the types and errors of its Python client.

The client package itself opens a session for each call and has no argument for an adapter; here one pooled session is
used, and the parameters have one more field.
"""

from __future__ import annotations

import json
from collections.abc import Container, Sequence

from text_generation import errors
from text_generation.types import BestOfSequence, Details, Grammar, GrammarType, Parameters, Request, Response

from duologue.models.capabilities import TGI_BASE, TGI_TOP_TOKENS, Capabilities
from duologue.models.completion import ChatRequest, Completion, TokenChoice, written
from duologue.models.connection import Connection, ModelRefused, ModelUnavailable, Reply
from duologue.models.endpoint import Endpoint
from duologue.models.template import OwnTemplate, ServersTemplate


class AdapterParameters(Parameters):  # type: ignore[misc]
    """What /generate takes, and the adapter, which the client package leaves out."""

    adapter_id: str | None = None


class AdapterRequest(Request):  # type: ignore[misc]
    """Written out by the types of its fields: with the package's own, the adapter would be left out again."""

    parameters: AdapterParameters


class TgiBackend:
    """Asks one server. The model of the settings is its base model; every other name is an adapter's."""

    def __init__(
        self,
        connection: Connection,
        endpoint: Endpoint,
        known: Capabilities,
        adapters: Container[str],
        template: OwnTemplate | None,
    ) -> None:
        self._connection = connection
        self._template = template or ServersTemplate(connection)
        self._base = {"", TGI_BASE, endpoint.model, *known.models}
        self._adapters = adapters
        self._most_stops = known.most_stops

    async def complete(self, request: ChatRequest) -> Completion:
        """The answer. Raises `ModelUnavailable` or `ModelRefused`."""
        if request.model not in self._base and request.model not in self._adapters:
            raise ModelRefused(  # it would answer with its base model, without a word
                f"{self._connection.url} serves another model, and {request.model!r} is no adapter that is known", 404
            )
        prompt = await self._template.render(request.messages)
        body = AdapterRequest(inputs=prompt, parameters=self._parameters(request)).model_dump(exclude_none=True)
        try:
            reply = await self._connection.post("/generate", body)
        except (ModelUnavailable, ModelRefused) as error:
            raise _by_kind(error) from error
        try:
            return _completion(reply, request.stop)
        except (ValueError, TypeError) as error:
            raise ModelUnavailable(f"{self._connection.url}: an answer of another shape: {error}") from error

    def _parameters(self, request: ChatRequest) -> AdapterParameters:
        sampling = request.sampling
        parameters = AdapterParameters(
            max_new_tokens=sampling.max_tokens,
            stop=list(request.stop[: self._most_stops]),
            details=True,
            adapter_id=None if request.model in self._base else request.model,
        )
        if sampling.temperature > 0:  # TGI refuses a temperature of 0, and samples as soon as one is named
            parameters.do_sample = True
            parameters.temperature = sampling.temperature
            parameters.top_p = sampling.top_p if sampling.top_p < 1 else None
            parameters.top_k = sampling.top_k or None
            parameters.seed = request.seed
        if request.pattern:
            parameters.grammar = Grammar(type=GrammarType.Regex, value=request.pattern)
        if request.top_logprobs:
            parameters.top_n_tokens = min(request.top_logprobs, TGI_TOP_TOKENS)
        return parameters


def _completion(reply: Reply, stops: Sequence[str]) -> Completion:
    response = Response.model_validate(reply.content)
    details = response.details
    if details is None:
        raise ValueError("no details, which were asked for")
    return Completion(
        text=written(response.generated_text, stops),
        is_cut=details.finish_reason == "length",
        prompt_tokens=int(reply.headers.get("x-prompt-tokens", 0)),
        completion_tokens=details.generated_tokens,
        tokens=_tokens(details),
    )


def _tokens(details: Details | BestOfSequence) -> tuple[TokenChoice, ...]:
    """What might have stood at each place. The likeliest may lack the token that was drawn."""
    return tuple(
        TokenChoice.of(chosen.text, ((each.text, each.logprob) for each in (*others, chosen)))
        for chosen, others in zip(details.tokens, details.top_tokens or (), strict=False)
    )


def _by_kind(error: ModelUnavailable | ModelRefused) -> ModelUnavailable | ModelRefused:
    """The same error with TGI's own name for it, where the answer has one. What follows from it, its status says."""
    try:
        name = type(errors.parse_error(error.status, json.loads(error.answer))).__name__
    except (ValueError, KeyError, TypeError):
        return error
    if isinstance(error, ModelRefused):
        return ModelRefused(f"{name}: {error}", error.status, error.answer)
    return ModelUnavailable(f"{name}: {error}", error.retry_after, error.status, error.answer)
