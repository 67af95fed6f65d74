"""Does a model server answer, what is it, and does it have the model? Said within seconds, with what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from duologue.core.prompts import Question
from duologue.models.capabilities import TGI_BASE, Capabilities
from duologue.models.completion import GREEDY, ChatRequest
from duologue.models.connection import ModelRefused, ModelUnavailable
from duologue.models.decisions import DecisionModel
from duologue.models.dialects import OTHER
from duologue.models.endpoint import Endpoint
from duologue.models.replica import Replica
from duologue.models.server import ModelServer

# A server that loads a model on demand needs longer than one that has it; more than this nobody waits for.
CHECK_SECONDS = 60.0
# What a dialogue of eight turns a side may need, at a hundred tokens a turn, its instructions included.
LEAST_TOKENS = 2048
_SHOWN_MODELS = 10


@dataclass(frozen=True)
class ModelCheck:
    """One part's server. `problem` is empty when it answers, else what is wrong and how to mend it.

    `found` says what the server is and can do, "" where it did not come to that.
    """

    part: str
    url: str
    model: str
    problem: str
    seconds: float
    found: str = ""


async def check_chat(part: str, endpoint: Endpoint) -> list[ModelCheck]:
    """Ask each of the endpoint's servers what it is, and for one token of chat."""

    async def ask(server: ModelServer) -> None:
        request = ChatRequest([{"role": "user", "content": "Hello."}], replace(GREEDY, max_tokens=1), endpoint.model)
        await server.replicas[0].complete(request)

    return await _check(part, endpoint, ask)


async def check_decisions(part: str, endpoint: Endpoint) -> list[ModelCheck]:
    """Ask each of the endpoint's servers what it is, and one yes/no question."""

    async def ask(server: ModelServer) -> None:
        question: Question = {"type": "noul", "instructions": "Is this a greeting?"}
        await DecisionModel(server).ask("Hello.", {"ok": question})

    return await _check(part, endpoint, ask)


async def check_adapter_of(part: str, server: ModelServer, served_model: str) -> list[ModelCheck]:
    """Have each server of a part show that it serves an adapter, of which `server` knows the fingerprint."""

    async def check(replica: Replica) -> ModelCheck:
        started = time.perf_counter()
        problem = ""
        try:
            await replica.show(served_model)
        except (ModelRefused, ModelUnavailable) as error:
            problem = (
                f"{error}\n    This server must serve the adapter as {served_model!r}: TGI is started with it, vLLM "
                "loads it from models.agent.artifacts. See docs/models/adapters.md."
            )
        return ModelCheck(part, replica.url, served_model, problem, time.perf_counter() - started)

    return await asyncio.gather(*(check(replica) for replica in server.replicas))


async def _check(part: str, endpoint: Endpoint, ask: Callable[[ModelServer], Awaitable[None]]) -> list[ModelCheck]:
    patient = endpoint.model_copy(
        update={"patience_seconds": 0.0, "timeout_seconds": min(endpoint.timeout_seconds, CHECK_SECONDS)}
    )
    return await asyncio.gather(
        *(_check_server(part, patient.model_copy(update={"url": url}), ask) for url in endpoint.urls)
    )


async def _check_server(part: str, endpoint: Endpoint, ask: Callable[[ModelServer], Awaitable[None]]) -> ModelCheck:
    started = time.perf_counter()
    problem, known = "", None
    async with ModelServer(endpoint) as server:
        (replica,) = server.replicas
        try:
            known = await replica.capabilities()
            await ask(server)
        except (ModelRefused, ModelUnavailable) as error:
            problem = f"{error}\n    {_advice(error.status, part, endpoint, known)}"
        else:
            problem = _other_model(part, endpoint, known) or _too_short(part, known)
        found = "" if known is None else _told(known, replica)
    return ModelCheck(part, endpoint.url, endpoint.model, problem, time.perf_counter() - started, found)


def _advice(status: int, part: str, endpoint: Endpoint, known: Capabilities | None) -> str:
    """What to mend. For a model that it does not know, transformers serve answers 500, not 404."""
    if known is None:
        return f"Start the server, or set models.{part}.url to where it listens."
    if status in (401, 403):
        return f"Set models.{part}.api_key."
    listed = ""
    if known.models:
        more = ", ..." * (len(known.models) > _SHOWN_MODELS)
        listed = f" It lists {', '.join(known.models[:_SHOWN_MODELS])}{more}."
    return (
        f"The server is there; does it serve {endpoint.model!r}?{listed}\n"
        f"    See its log, and check models.{part}.model and models.{part}.url."
    )


def _other_model(part: str, endpoint: Endpoint, known: Capabilities) -> str:
    """TGI serves its model under whatever name; dialogues would be told to come of one that it is not."""
    if known.api != "tgi" or endpoint.model in ("", TGI_BASE, *known.models):
        return ""
    (served,) = known.models
    return (
        f"The server serves {served!r}, not {endpoint.model!r}.\n"
        f"    Set models.{part}.model to {served}, or models.{part}.url to the right server."
    )


def _too_short(part: str, known: Capabilities) -> str:
    if not 0 < known.max_tokens < LEAST_TOKENS:
        return ""
    return (
        f"The server takes {known.max_tokens} tokens of prompt and answer together; a dialogue of eight turns a side "
        f"may need {LEAST_TOKENS}.\n"
        "    Start it with more (TGI: --max-total-tokens, vLLM: --max-model-len, SGLang: --context-length, llama.cpp: "
        f"-c), or choose another for models.{part}.url."
    )


def _told(known: Capabilities, replica: Replica) -> str:
    """What a person wants to know of a server, in a line."""
    told = [known.server]
    if replica.has_systemone:
        told.append("typed decisions")
    elif known.has_patterns:
        told.append("letters under a regular expression")
    if known.top_logprobs and (known.api == "tgi" or known.dialect is not OTHER):
        told.append(f"log-probabilities of {known.top_logprobs}")
    if known.api == "tgi":
        told.append("adapters by name, loaded at its start")
    elif known.loads_adapters:
        told.append("adapters loaded by its API")
    if known.max_tokens:
        told.append(f"{known.max_tokens} tokens")
    if known.most_requests:
        told.append(f"{known.most_requests} requests at once")
    return "; ".join(told)
