"""What TGI takes: the fields of a request with their types, the bounds of their values, and its words of refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.support.tgi_model import Drawing, pattern_of

_U32, _U64, _I32 = (0, 2**32 - 1), (0, 2**64 - 1), (-(2**31), 2**31 - 1)
_MOST_TOP_TOKENS = 5
_GRAMMARS = ("json", "json_object", "regex", "json_schema")


@dataclass(frozen=True)
class Limits:
    """What a TGI was started with. `prefill_logprobs`: it tells those of the prompt when asked to."""

    concurrent_requests: int = 128
    best_of: int = 2
    stop_sequences: int = 4
    input_tokens: int = 2048
    total_tokens: int = 4096
    payload_bytes: int = 2_000_000
    prefill_logprobs: bool = False


class Refused(Exception):
    """An answer other than 200: JSON with a kind of error, text without one."""

    def __init__(self, status: int, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


def invalid(message: str) -> Refused:
    return Refused(422, f"Input validation error: {message}", "validation")


def overloaded() -> Refused:
    return Refused(429, "Model is overloaded", "overloaded")


def failed(message: str) -> Refused:
    return Refused(424, f"Request failed during generation: Server error: {message}", "generation")


@dataclass(frozen=True)
class Job:
    """What is to be written, by whom, and what is to be told of it."""

    prompt: str
    parameters: Mapping[str, Any]
    adapter: str = ""
    adds_begin: bool = True

    @property
    def is_sampled(self) -> bool:
        asked = self.parameters
        return bool(asked.get("do_sample")) or any(
            asked.get(name) is not None for name in ("temperature", "top_k", "top_p", "typical_p")
        )

    @property
    def best_of(self) -> int:
        return self.parameters.get("best_of") or 1


# Reading: what serde says of a body that is not of the type.


def read_json(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError as error:
        raise Refused(400, f"Failed to parse the request body as JSON: {error}") from error
    if not isinstance(body, dict):
        raise _mistyped("", body, "struct")
    return body


def read_generate(body: Mapping[str, Any], has_full_text: bool = False) -> Job:
    """/generate and its like. Without `parameters` TGI samples; with any, even none in it, it is greedy."""
    _read(body, {"inputs": _string})
    asked = {"do_sample": True} if body.get("parameters") is None else body["parameters"]
    if not isinstance(asked, dict):
        raise _mistyped("parameters: ", asked, "struct GenerateParameters")
    for name, check in _PARAMETERS.items():
        if name in asked:
            check(f"parameters.{name}: ", asked[name])
    parameters = {"return_full_text": has_full_text} | {name: asked[name] for name in _PARAMETERS if name in asked}
    return Job(body["inputs"], parameters, adapter=parameters.get("adapter_id") or "")


def read_chat(body: Mapping[str, Any], prompt: Callable[[list[dict[str, Any]]], str]) -> Job:
    """Samples unless the temperature is 0; every `model` but "tgi" is an adapter; unknown fields are nothing."""
    _read(body, {"messages": _list})
    for name, check in _CHAT.items():
        if name in body:
            check(f"{name}: ", body[name])
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    parameters = {
        "max_new_tokens": most,
        "stop": body.get("stop") or [],
        "seed": body.get("seed"),
        "top_p": body.get("top_p"),
        "frequency_penalty": body.get("frequency_penalty"),
        "grammar": body.get("response_format"),
        "top_n_tokens": body.get("top_logprobs") if body.get("logprobs") else None,
        **_temperature(body),
    }
    return Job(prompt(body["messages"]), parameters, _adapter(body), adds_begin=False)


def read_completions(body: Mapping[str, Any]) -> list[Job]:
    """One job for each prompt."""
    _read(body, {"prompt": lambda *_: None})
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    parameters = {
        "max_new_tokens": body.get("max_tokens"),
        "stop": body.get("stop") or [],
        "seed": body.get("seed"),
        "top_p": body.get("top_p"),
        **_temperature(body),
    }
    return [Job(prompt, parameters, _adapter(body)) for prompt in prompts]


def _adapter(body: Mapping[str, Any]) -> str:
    model = body.get("model") or "tgi"
    return "" if model == "tgi" else str(model)


def _temperature(body: Mapping[str, Any]) -> dict[str, Any]:
    temperature = body.get("temperature")
    return {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}


def _read(body: Mapping[str, Any], required: Mapping[str, Callable[[str, Any], None]]) -> None:
    for name, check in required.items():
        if name not in body:
            raise _unread(f"missing field `{name}`")
        check(f"{name}: ", body[name])


def _unread(message: str) -> Refused:
    # The real one goes on with where in the body it stopped; nobody reads that.
    return Refused(422, f"Failed to deserialize the JSON body into the target type: {message} at line 1 column 1")


def _mistyped(path: str, value: Any, expected: str) -> Refused:
    return _unread(f"{path}invalid type: {_told(value)}, expected {expected}")


def _told(value: Any) -> str:
    """A value as serde names it; a number that no integer holds is a floating one."""
    match value:
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int() if -(2**63) <= value < 2**64:
            return f"integer `{value}`"
        case int() | float():
            return f"floating point `{float(value)!r}`".replace("e+", "e")
        case str():
            return f"string {json.dumps(value)}"
    return {type(None): "null", list: "sequence", dict: "map"}[type(value)]


def _string(path: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _mistyped(path, value, "a string")


def _list(path: str, value: Any) -> None:
    if not isinstance(value, list):
        raise _mistyped(path, value, "a sequence")


def _boolean(path: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _mistyped(path, value, "a boolean")


def _number(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mistyped(path, value, "f32")


def _integer(bounds: tuple[int, int], name: str) -> Callable[[str, Any], None]:
    def check(path: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value >= 2**64:
            raise _mistyped(path, value, name)
        if not bounds[0] <= value <= bounds[1]:
            raise _unread(f"{path}invalid value: {_told(value)}, expected {name}")

    return check


def _or_null(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    return lambda path, value: None if value is None else check(path, value)


def _grammar(path: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _mistyped(path, value, "struct")
    if value.get("type") not in _GRAMMARS:
        named = ", ".join(f"`{name}`" for name in _GRAMMARS)
        raise _unread(f"{path.removesuffix(': ')}.type: unknown variant `{value.get('type')}`, expected one of {named}")
    if "value" not in value:
        raise _unread(f"{path}missing field `value`")


_COUNT = _or_null(_integer(_U32, "u32"))
_PARAMETERS: dict[str, Callable[[str, Any], None]] = {
    "best_of": _COUNT,
    "temperature": _or_null(_number),
    "repetition_penalty": _or_null(_number),
    "frequency_penalty": _or_null(_number),
    "top_k": _or_null(_integer(_I32, "i32")),
    "top_p": _or_null(_number),
    "typical_p": _or_null(_number),
    "do_sample": _boolean,
    "max_new_tokens": _COUNT,
    "return_full_text": _or_null(_boolean),
    "stop": _list,
    "truncate": _COUNT,
    "watermark": _boolean,
    "details": _boolean,
    "decoder_input_details": _boolean,
    "seed": _or_null(_integer(_U64, "u64")),
    "top_n_tokens": _COUNT,
    "grammar": _or_null(_grammar),
    "adapter_id": _or_null(_string),
}
_CHAT: dict[str, Callable[[str, Any], None]] = {
    "frequency_penalty": _or_null(_number),
    "logit_bias": _or_null(_list),
    "logprobs": _or_null(_boolean),
    "top_logprobs": _COUNT,
    "max_tokens": _COUNT,
    "max_completion_tokens": _COUNT,
    "stop": _or_null(_list),
    "stream": _boolean,
    "seed": _or_null(_integer(_U64, "u64")),
    "temperature": _or_null(_number),
    "top_p": _or_null(_number),
    "response_format": _or_null(_grammar),
}


# Checking: what the router says of a value, one after another, and the first mistake is the answer.


def check_best_of(job: Job, limits: Limits, is_stream: bool) -> None:
    """Before the job takes a slot."""
    if is_stream and job.best_of > 1:
        raise invalid("`best_of` != 1 is not supported when streaming tokens")
    if is_stream and job.parameters.get("decoder_input_details"):
        raise invalid("`decoder_input_details` == true is not supported when streaming tokens")
    if job.best_of > limits.best_of:
        raise invalid(f"`best_of` must be > 0 and <= {limits.best_of}. Given: {job.best_of}")


def check(job: Job, limits: Limits) -> None:
    """All that can be said before the prompt is read, in the router's order."""
    _check_drawing(job)
    _check_counts(job, limits)


def _check_drawing(job: Job) -> None:
    asked = job.parameters
    if job.best_of > 1 and not job.is_sampled:
        raise invalid("you must use sampling when `best_of` is > 1")
    for name in ("temperature", "repetition_penalty"):
        if asked.get(name) is not None and asked[name] <= 0:
            raise invalid(f"`{name}` must be strictly positive")
    if not -2 <= (asked.get("frequency_penalty") or 0.0) <= 2:
        raise invalid("`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name in ("top_p", "typical_p"):
        if asked.get(name) is not None and not 0 < asked[name] < 1:
            raise invalid(f"`{name}` must be > 0.0 and < 1.0")
    if asked.get("top_k") is not None and asked["top_k"] <= 0:
        raise invalid("`top_k` must be strictly positive")


def _check_counts(job: Job, limits: Limits) -> None:
    asked = job.parameters
    if asked.get("max_new_tokens") == 0:
        raise invalid("`max_new_tokens` must be strictly positive")
    if len(asked.get("stop") or ()) > limits.stop_sequences:
        raise invalid(f"`stop` supports up to {limits.stop_sequences} stop sequences. Given: {len(asked['stop'])}")
    if asked.get("seed") is not None and job.best_of > 1:
        raise invalid("`seed` must not be set when `best_of` > 1")
    if (asked.get("top_n_tokens") or 0) > _MOST_TOP_TOKENS:
        raise invalid(f"`top_n_tokens` must be >= 0 and <= {_MOST_TOP_TOKENS}. Given: {asked['top_n_tokens']}")
    if not job.prompt:
        raise invalid("`inputs` cannot be empty")
    truncate = asked.get("truncate")
    if truncate is not None and not 0 < truncate <= limits.input_tokens:
        raise invalid(f"`truncate` must be strictly positive and less than {limits.input_tokens}. Given: {truncate}")


def drawing(job: Job, limits: Limits, input_tokens: int, seed: int) -> Drawing:
    """How the job's tokens are drawn, after a prompt of so many tokens. `seed`: where it names none."""
    asked = job.parameters
    most = asked.get("max_new_tokens")
    most = max(limits.total_tokens - input_tokens, 0) if most is None else min(most, 1024)
    if input_tokens + most > limits.total_tokens:
        raise invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {limits.total_tokens}. "
            f"Given: {input_tokens} `inputs` tokens and {most} `max_new_tokens`"
        )
    if input_tokens > limits.input_tokens:
        raise invalid(f"`inputs` must have less than {limits.input_tokens} tokens. Given: {input_tokens}")
    greedy = Drawing(
        most,
        stop=asked.get("stop") or (),
        pattern=_pattern(asked.get("grammar")),
        top_n=asked.get("top_n_tokens") or 0,
    )
    if not job.is_sampled:
        return greedy
    return replace(
        greedy,
        seed=seed if asked.get("seed") is None else asked["seed"],
        temperature=asked.get("temperature") or 1.0,
        top_k=asked.get("top_k") or 0,
        top_p=asked.get("top_p") or 1.0,
    )


def _pattern(grammar: Mapping[str, Any] | None) -> str:
    if grammar is None:
        return ""
    if grammar["type"] == "regex":
        return str(grammar["value"])
    schema = grammar["value"]["schema"] if grammar["type"] == "json_schema" else grammar["value"]
    if "properties" not in schema:
        raise invalid("grammar is not valid: Grammar must have a 'properties' field")
    return pattern_of(schema)


def told(logprob: float) -> float | None:
    """As JSON has it: what is no number is null."""
    return None if math.isnan(logprob) else logprob
