"""Requests to models as traces show them, by OpenTelemetry's conventions for generative AI: what for, how much, how
long; never what was said."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind

from duologue.core.usage import Usage
from duologue.models.completion import Caller, ChatRequest, Completion
from duologue.telemetry import child


def chatting(url: str, request: ChatRequest, caller: Caller) -> AbstractContextManager[Span]:
    def attributes() -> dict[str, Any]:
        sampling = request.sampling
        asked = {
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.max_tokens": sampling.max_tokens,
        }
        seed = {} if request.seed is None else {"gen_ai.request.seed": request.seed}
        return {**_common("chat", url, request.model, caller), **asked, **seed}

    return child(f"chat {request.model}", SpanKind.CLIENT, attributes)


def deciding(url: str, model: str, questions: int, caller: Caller) -> AbstractContextManager[Span]:
    return child(
        f"decide {model}",
        SpanKind.CLIENT,
        lambda: {**_common("decide", url, model, caller), "duologue.questions": questions},
    )


def show_completion(span: Span, completion: Completion) -> None:
    if span.is_recording():
        span.set_attribute("gen_ai.response.finish_reasons", ["length" if completion.is_cut else "stop"])
        show_usage(span, completion.usage)


def show_usage(span: Span, usage: Usage) -> None:
    """Tokens. Those of the prefix cache where the server tells them."""
    if not span.is_recording():
        return
    span.set_attribute("gen_ai.usage.input_tokens", usage.prompt_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", usage.completion_tokens)
    if usage.told_tokens:
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)


def _common(operation: str, url: str, model: str, caller: Caller) -> dict[str, Any]:
    place = urlsplit(url)
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": model,
        "gen_ai.conversation.id": caller.dialogue,
        "duologue.campaign.id": caller.campaign,
        "server.address": place.hostname or "",
        "server.port": place.port or (443 if place.scheme == "https" else 80),
    }
