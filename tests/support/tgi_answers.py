"""How TGI words its answers: headers, details of a generation, chat and completions, events of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from tests.support.tgi_model import END, Drawing, Place, Token, Writing
from tests.support.tgi_requests import Job, Refused, told

_BUILD = "3.3.6-dev0-native"
_CROSS_ORIGIN = {
    "vary": "origin, access-control-request-method, access-control-request-headers",
    "access-control-allow-origin": "*",
}
_COMPUTE = {"x-compute-type": "gpu+optimized"}


class Done(NamedTuple):
    """What became of a job: one writing, or several for `best_of`, the first of them the best.

    `prefill`: the log-probabilities of the prompt's tokens, None for the first; none where they were not asked for.
    """

    prompt: list[Token]
    prefill: list[float | None]
    drawings: list[Drawing]
    writings: list[Writing]


# Around an answer.


def empty(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, headers=_CROSS_ORIGIN | dict(headers or {}))


def preflight() -> web.Response:
    allowed = {"access-control-allow-methods": "GET,POST", "access-control-allow-headers": "content-type"}
    return empty(200, allowed | {"allow": "POST"})


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(),
        content_type="application/json",
        headers=_CROSS_ORIGIN | dict(headers or {}),
    )


def refusal(refused: Refused) -> web.Response:
    if refused.kind:
        return json_answer({"error": refused.message, "error_type": refused.kind}, refused.status)
    return web.Response(status=refused.status, text=refused.message, headers=_CROSS_ORIGIN)


def timed(content: Any, jobs: Sequence[Job], done: Sequence[Done], *, has_compute_time: bool = True) -> web.Response:
    """With what TGI says of the work in its headers; of `best_of` it counts one. Times are those of a fast machine."""
    characters = sum(len(job.prompt) for job in jobs)
    written = sum(len(each.writings[0].places) for each in done)
    times = dict.fromkeys(("x-total-time", "x-validation-time", "x-queue-time", "x-inference-time"), "1")
    headers = (
        _COMPUTE
        | times
        | {
            "x-compute-characters": str(characters),
            "x-time-per-token": "1",
            "x-prompt-tokens": str(sum(len(each.prompt) for each in done)),
            "x-generated-tokens": str(written),
        }
    )
    if has_compute_time:
        headers["x-compute-time"] = "0.001"
    return json_answer(content, headers=headers)


def metrics(values: Mapping[str, tuple[str, str, float]]) -> web.Response:
    lines = [
        f"# HELP {name} {what}\n# TYPE {name} {kind}\n{name} {value:g}\n"
        for name, (kind, what, value) in values.items()
    ]
    return web.Response(text="\n".join(lines), headers=_CROSS_ORIGIN)


async def begin_stream(http: web.Request, characters: int) -> web.StreamResponse:
    """A stream begins with 200, whatever comes of it."""
    response = web.StreamResponse(
        headers=_CROSS_ORIGIN
        | _COMPUTE
        | {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            "x-compute-characters": str(characters),
        }
    )
    response.enable_chunked_encoding()
    await response.prepare(http)
    return response


async def event(response: web.StreamResponse, content: Any) -> None:
    data = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    await response.write(f"data: {data}\n\n".encode())


# /generate


def generated(job: Job, done: Done) -> dict[str, Any]:
    """`decoder_input_details` brings the details along; the prompt's are empty unless TGI was started for them."""
    best, *others = zip(done.drawings, done.writings, strict=True)
    answer: dict[str, Any] = {"generated_text": _whole(job, best[1])}
    asked = job.parameters
    if not (asked.get("details") or asked.get("decoder_input_details")):
        return answer
    prefill = [
        {"id": token.id, "text": token.text, "logprob": logprob}
        for token, logprob in zip(done.prompt, done.prefill, strict=False)
    ]
    answer["details"] = _details(*best, prefill)
    if others:
        answer["details"]["best_of_sequences"] = [
            {"generated_text": _whole(job, writing)} | _details(drawing, writing, prefill)
            for drawing, writing in others
        ]
    return answer


def _whole(job: Job, writing: Writing) -> str:
    return (job.prompt if job.parameters.get("return_full_text") else "") + writing.text


def _details(drawing: Drawing, writing: Writing, prefill: list[dict[str, Any]]) -> dict[str, Any]:
    details: dict[str, Any] = {
        "finish_reason": writing.finish,
        "generated_tokens": len(writing.places),
        "seed": drawing.seed,
        "prefill": prefill,
        "tokens": [_token(place.token, place.logprob) for place in writing.places],
    }
    if drawing.top_n:
        details["top_tokens"] = [_top(place) for place in writing.places]
    return details


def _token(token: Token, logprob: float) -> dict[str, Any]:
    special = token.text == END
    return {"id": token.id, "text": token.text, "logprob": told(logprob), "special": special}


def _top(place: Place) -> list[dict[str, Any]]:
    return [_token(token, logprob) for token, logprob in place.top]


def generated_events(job: Job, done: Done) -> Iterator[dict[str, Any]]:
    """The last one has the text, and the details if asked for."""
    drawing, writing = done.drawings[0], done.writings[0]
    for index, place in enumerate(writing.places, start=1):
        is_last = index == len(writing.places)
        details = {
            "finish_reason": writing.finish,
            "generated_tokens": index,
            "seed": drawing.seed,
            "input_length": len(done.prompt),
        }
        yield {
            "index": index,
            "token": _token(place.token, place.logprob),
            **({"top_tokens": _top(place)} if drawing.top_n else {}),
            "generated_text": _whole(job, writing) if is_last else None,
            "details": details if is_last and job.parameters.get("details") else None,
        }


def tokenized(tokens: Sequence[Token], added: int) -> list[dict[str, Any]]:
    """Where each token stands in the text, in bytes. Those that were added stand at its beginning, and are empty."""
    found: list[dict[str, Any]] = []
    start = stop = 0
    for index, token in enumerate(tokens):
        if not token.is_more:
            start, stop = stop, stop + (len(token.text.encode()) if index >= added else 0)
        found.append({"id": token.id, "text": token.text if stop > start else "", "start": start, "stop": stop})
    return found


# Chat and completions


def chat(model: str, body: Mapping[str, Any], done: Done) -> dict[str, Any]:
    writing = done.writings[0]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": writing.text},
        "logprobs": _logprobs(writing.places) if body.get("logprobs") else None,
        "finish_reason": _finish(writing),
    }
    return _head("chat.completion", model) | {"choices": [choice], "usage": _usage([done])}


def chat_events(model: str, body: Mapping[str, Any], done: Done) -> Iterator[dict[str, Any]]:
    """A chunk for each token; the usage, if asked for, in one of its own."""
    writing = done.writings[0]
    head = _head("chat.completion.chunk", model)
    for index, place in enumerate(writing.places, start=1):
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": place.text},
            "logprobs": _logprobs([place]) if body.get("logprobs") else None,
            "finish_reason": _finish(writing) if index == len(writing.places) else None,
        }
        yield head | {"choices": [choice], "usage": None}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield head | {"choices": [], "usage": _usage([done])}


def completions(model: str, done: Sequence[Done]) -> dict[str, Any]:
    """One choice for each prompt, in the order in which they happened to end: here, the last one first."""
    choices = [_completion(index, each.writings[0].text, _finish(each.writings[0])) for index, each in enumerate(done)]
    return _head("text_completion", model) | {"choices": choices[::-1], "usage": _usage(done)}


def completion_events(model: str, done: Sequence[Done]) -> Iterator[dict[str, Any]]:
    for index, each in enumerate(done):
        *places, last = each.writings[0].places
        for place in places:
            yield _head("text_completion", model) | {"choices": [_completion(index, place.text, "")]}
        choice = _completion(index, last.text, _finish(each.writings[0]))
        yield _head("text_completion", model) | {"choices": [choice], "usage": _usage([each])}


def _completion(index: int, text: str, finish: str) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"object": kind, "id": "", "created": int(time.time()), "model": model, "system_fingerprint": _BUILD}


def _usage(done: Sequence[Done]) -> dict[str, int]:
    read = sum(len(each.prompt) for each in done)
    written = sum(len(each.writings[0].places) for each in done)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _finish(writing: Writing) -> str:
    return "stop" if writing.finish == "eos_token" else writing.finish


def _logprobs(places: Sequence[Place]) -> dict[str, Any]:
    return {
        "content": [
            {
                "token": place.token.text,
                "logprob": told(place.logprob),
                "top_logprobs": [{"token": token.text, "logprob": told(logprob)} for token, logprob in place.top],
            }
            for place in places
        ]
    }
