"""Does a model server answer, and does it have the model? Said within seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import aiohttp
from pydantic import BaseModel, ValidationError

from duologue.models.chat import ChatModel, Sampling
from duologue.models.decisions import DecisionModel
from duologue.models.server import Endpoint, ModelRefused, ModelServer, ModelUnavailable

# For any answer at all; a server that is there needs no time to say something.
REACH_SECONDS = 5.0
# A server that loads a model on demand needs longer than one that has it; more than this nobody waits for.
CHECK_SECONDS = 60.0
_SHOWN_MODELS = 10


class _Listed(BaseModel):
    id: str


class _ModelList(BaseModel):
    data: list[_Listed]


@dataclass(frozen=True)
class ModelCheck:
    """One part's server. `problem` is empty when it answers, else what is wrong and how to mend it."""

    part: str
    url: str
    model: str
    problem: str
    seconds: float


async def check_chat(part: str, endpoint: Endpoint) -> ModelCheck:
    """Ask for one token of chat."""
    return await _check(part, endpoint, decide=False)


async def check_decisions(part: str, endpoint: Endpoint) -> ModelCheck:
    """Ask one yes/no question."""
    return await _check(part, endpoint, decide=True)


async def _check(part: str, endpoint: Endpoint, *, decide: bool) -> ModelCheck:
    started = time.perf_counter()
    patient = endpoint.model_copy(
        update={"attempts": 1, "timeout_seconds": min(endpoint.timeout_seconds, CHECK_SECONDS)}
    )
    problem = ""
    try:
        await _reach(endpoint.url.rstrip("/"))
        try:
            async with ModelServer(patient) as server:
                await _ask(server, decide=decide)
        except (ModelRefused, ModelUnavailable) as error:
            status = error.status if isinstance(error, ModelRefused) else 0
            problem = f"{error}\n    {await _advice(status, part, endpoint)}"
    except ModelUnavailable as error:
        problem = f"{error}\n    Start the server, or set models.{part}.url to where it listens."
    return ModelCheck(part, endpoint.url, endpoint.model, problem, time.perf_counter() - started)


async def _ask(server: ModelServer, *, decide: bool) -> None:
    if decide:
        question = {"ok": {"type": "noul", "instructions": "Is this a greeting?"}}
        await DecisionModel(server).ask("Hello.", question)
    else:
        await ChatModel(server).complete(
            [{"role": "user", "content": "Hello."}], Sampling(temperature=0.0, max_tokens=1)
        )


async def _reach(url: str) -> None:
    """Any answer will do, also that there is no such path. Raises `ModelUnavailable` when none comes."""
    timeout = aiohttp.ClientTimeout(total=REACH_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/health"):
            return
    except TimeoutError as error:
        raise ModelUnavailable(f"{url} did not answer in {REACH_SECONDS:g} s") from error
    except aiohttp.ClientError as error:
        raise ModelUnavailable(f"{url}: {error}") from error


async def _advice(status: int, part: str, endpoint: Endpoint) -> str:
    """What to mend at a server that is there. For a model it does not know, transformers serve answers 500, not 404."""
    if status in (401, 403):
        return f"Set models.{part}.api_key."
    served = await _served(endpoint)
    listed = (
        f" It lists {', '.join(served[:_SHOWN_MODELS])}{', ...' * (len(served) > _SHOWN_MODELS)}." if served else ""
    )
    return (
        f"The server is there; does it serve {endpoint.model!r}?{listed}\n"
        f"    See its log, and check models.{part}.model and models.{part}.url."
    )


async def _served(endpoint: Endpoint) -> list[str]:
    """Ids of the models that the server lists; none where it keeps no such list."""
    headers = {"Authorization": f"Bearer {endpoint.api_key.get_secret_value()}"} if endpoint.api_key else {}
    timeout = aiohttp.ClientTimeout(total=REACH_SECONDS)
    url = f"{endpoint.url.rstrip('/')}/v1/models"
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session, session.get(url) as response:
            return [model.id for model in _ModelList.model_validate_json(await response.read()).data]
    except (TimeoutError, aiohttp.ClientError, ValidationError):
        return []
