"""An imitation of Text Generation Inference 3.3.7: its paths, rules, refusals and headers, around a model of the test.

libs/duologue/tests/models/test_tgi_double.py holds it to recorded answers of the real one. What it leaves out: tools
(their grammar is asked for by no client of ours, so they always fail to parse), images, and most of /metrics.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from duologue.models import Endpoint
from tests.support import tgi_answers as answers
from tests.support.http_app import serve
from tests.support.tgi_answers import Done
from tests.support.tgi_model import BEGIN, END, Drawing, Model, ScriptedModel, Token, read, text_of, write
from tests.support.tgi_requests import (
    Job,
    Limits,
    Refused,
    check,
    check_best_of,
    drawing,
    failed,
    overloaded,
    read_chat,
    read_completions,
    read_generate,
    read_json,
)

MODEL_ID, VERSION = "/data/model", "3.3.6-dev0"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_OPEN_PATHS = {"/info", "/health", "/metrics", "/ping", "/v1/models", "/chat_tokenize"}


class TgiRequest(NamedTuple):
    """What a client asked."""

    path: str
    body: Any
    headers: dict[str, str]


class TgiDouble:
    """Use as an async context manager. `adapters`: those that it was started with; any other name is the base model.

    `may_write`: cleared, what was let in waits for it, and holds its slot. `shard_is_dead`: every generation fails.
    """

    def __init__(
        self,
        model: Model | None = None,
        limits: Limits | None = None,
        *,
        adapters: Sequence[str] = (),
        api_key: str = "",
        chat_template: str = CHAT_TEMPLATE,
    ) -> None:
        self.model = model or ScriptedModel()
        self.limits = limits or Limits()
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.shard_is_dead = False
        self.requests: list[TgiRequest] = []
        self.url = ""
        self._adapters = set(adapters)
        self._api_key = api_key
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        self._template = environment.from_string(chat_template)
        self._free = self.limits.concurrent_requests
        self._asked = self._succeeded = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**30, middlewares=[self._guard])
        for path in ("/", "/health", "/ping"):
            app.router.add_get(path, self._health)
        app.router.add_get("/info", self._info)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        for path in ("/", "/invocations"):
            app.router.add_post(path, self._compatible)
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/generate_stream", self._generate_stream)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/chat_tokenize", self._chat_tokenize)
        self._runner, self.url = await serve(app, handler_cancellation=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.may_write.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def endpoint(self, **changes: Any) -> Endpoint:
        return Endpoint(**{"url": self.url, "model": "tgi", "timeout_seconds": 30.0} | changes)

    def asked(self, path: str) -> list[TgiRequest]:
        return [request for request in self.requests if request.path == path]

    @property
    def running(self) -> int:
        """Slots that are taken."""
        return self.limits.concurrent_requests - self._free

    # What stands before every path.

    @web.middleware
    async def _guard(self, http: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        if http.method == "OPTIONS":
            return answers.preflight()
        needs_key = self._api_key and http.path not in _OPEN_PATHS and http.method != "GET"
        if needs_key and http.headers.get("Authorization", "").lower() != f"bearer {self._api_key}".lower():
            return answers.empty(401)
        try:
            response: web.StreamResponse = await handler(http)
        except Refused as refused:
            return answers.refusal(refused)
        except web.HTTPException as error:  # aiohttp's own, for a path or a method that is not there
            return answers.empty(error.status, {"allow": error.headers["Allow"]} if "Allow" in error.headers else {})
        return response

    async def _read(self, http: web.Request) -> dict[str, Any]:
        if http.content_type != "application/json":
            raise Refused(415, "Expected request with `Content-Type: application/json`")
        content = await http.read()
        if len(content) > self.limits.payload_bytes:
            raise Refused(413, "Failed to buffer the request body: length limit exceeded")
        body = read_json(content)
        self.requests.append(TgiRequest(http.path, body, dict(http.headers)))
        return body

    # What it tells of itself.

    async def _health(self, _: web.Request) -> web.Response:
        if self.shard_is_dead:
            return answers.json_answer({"error": "unhealthy", "error_type": "healthcheck"}, status=503)
        return answers.empty(200)

    async def _info(self, _: web.Request) -> web.Response:
        return answers.json_answer(
            {
                "model_id": MODEL_ID,
                "model_sha": None,
                "model_pipeline_tag": None,
                "max_concurrent_requests": self.limits.concurrent_requests,
                "max_best_of": self.limits.best_of,
                "max_stop_sequences": self.limits.stop_sequences,
                "max_input_tokens": self.limits.input_tokens,
                "max_total_tokens": self.limits.total_tokens,
                "validation_workers": 2,
                "max_client_batch_size": 4,
                "router": "text-generation-router",
                "version": VERSION,
                "sha": None,
                "docker_label": None,
            }
        )

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": MODEL_ID}
        return answers.json_answer({"object": "list", "data": [model]})

    async def _metrics(self, _: web.Request) -> web.Response:
        return answers.metrics(
            {
                "tgi_request_count": ("counter", "Total number of requests", self._asked),
                "tgi_request_success": ("counter", "Number of successful requests", self._succeeded),
                "tgi_queue_size": ("gauge", "Current queue size", 0),
                "tgi_batch_current_size": ("gauge", "Current batch size", self.running),
            }
        )

    # What it writes.

    async def _generate(self, http: web.Request) -> web.StreamResponse:
        job = read_generate(await self._read(http))
        done = await self._write([job])
        return answers.timed(answers.generated(job, done[0]), [job], done)

    async def _generate_stream(self, http: web.Request) -> web.StreamResponse:
        return await self._stream_generated(http, read_generate(await self._read(http)))

    async def _stream_generated(self, http: web.Request, job: Job) -> web.StreamResponse:
        response = await answers.begin_stream(http, len(job.prompt))
        try:
            done = await self._write([job], is_stream=True)
        except Refused as refused:
            await answers.event(response, {"error": refused.message, "error_type": refused.kind})
            return response
        for event in answers.generated_events(job, done[0]):
            await answers.event(response, event)
        return response

    async def _compatible(self, http: web.Request) -> web.StreamResponse:
        """The hosted API of old: the prompt comes back with the text, and the answer is a list."""
        body = await self._read(http)
        job = read_generate(body, has_full_text=True)
        if body.get("stream"):
            return await self._stream_generated(http, job)
        done = await self._write([job])
        return answers.timed([answers.generated(job, done[0])], [job], done)

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        body = await self._read(http)
        job = read_chat(body, self._prompt)
        model = job.adapter or MODEL_ID
        if body.get("stream"):
            return await self._stream_chat(http, body, job, model)
        done = await self._write([job])
        if body.get("tools"):
            message = 'Tool error: Failed to parse generated text: missing field `function` at line 1 column 2 "{}"'
            raise Refused(422, message, "tool_error")
        return answers.timed(answers.chat(model, body, done[0]), [job], done)

    async def _stream_chat(self, http: web.Request, body: dict[str, Any], job: Job, model: str) -> web.StreamResponse:
        response = await answers.begin_stream(http, len(job.prompt))
        try:
            done = await self._write([job], is_stream=True)
        except Refused as refused:
            # Whatever the trouble is, it is 422 here.
            await answers.event(response, {"error": {"message": refused.message, "http_status_code": 422}})
        else:
            for event in answers.chat_events(model, body, done[0]):
                await answers.event(response, event)
        await answers.event(response, "[DONE]")
        return response

    async def _completions(self, http: web.Request) -> web.StreamResponse:
        body = await self._read(http)
        jobs = read_completions(body)
        if not body.get("stream"):
            done = await self._write(jobs)
            return answers.timed(answers.completions(MODEL_ID, done), jobs, done, has_compute_time=False)
        response = await answers.begin_stream(http, sum(len(job.prompt) for job in jobs))
        for event in answers.completion_events(MODEL_ID, await self._write(jobs, is_stream=True)):
            await answers.event(response, event)
        await answers.event(response, "[DONE]")
        return response

    async def _tokenize(self, http: web.Request) -> web.StreamResponse:
        """`add_special_tokens` is taken and ignored."""
        job = read_generate(await self._read(http))
        return answers.json_answer(answers.tokenized(self._tokens(job), added=1))

    async def _chat_tokenize(self, http: web.Request) -> web.StreamResponse:
        job = read_chat(await self._read(http), self._prompt)
        tokens = answers.tokenized(self._tokens(job), added=0)
        return answers.json_answer({"tokenize_response": tokens, "templated_text": job.prompt})

    def _prompt(self, messages: list[dict[str, Any]]) -> str:
        plain = [message | {"content": _text(message.get("content"))} for message in messages]
        try:
            return self._template.render(messages=plain, add_generation_prompt=True, bos_token=BEGIN, eos_token=END)
        except TemplateError as error:
            raise Refused(422, f"Template error: {error}", "template_error") from error

    def _tokens(self, job: Job) -> list[Token]:
        return [self.model.token(BEGIN)] * job.adds_begin + self.model.tokens(job.prompt)

    async def _write(self, jobs: Sequence[Job], *, is_stream: bool = False) -> list[Done]:
        """All of them at once, or none: each takes a slot, or as many as it shall be written times."""
        for job in jobs:
            check_best_of(job, self.limits, is_stream)
        async with self._admitted(sum(job.best_of for job in jobs)):
            plans = [self._plan(job) for job in jobs]
            await self.may_write.wait()
            if self.shard_is_dead:
                raise failed("error trying to connect: Connection refused (os error 111)")
            done = [self._done(job, tokens, drawings) for job, (tokens, drawings) in zip(jobs, plans, strict=True)]
        self._succeeded += len(jobs)
        return done

    @asynccontextmanager
    async def _admitted(self, slots: int) -> AsyncIterator[None]:
        self._asked += 1
        if slots > self._free:
            raise overloaded()
        self._free -= slots
        try:
            yield
        finally:
            self._free += slots

    def _plan(self, job: Job) -> tuple[list[Token], list[Drawing]]:
        check(job, self.limits)
        tokens = self._tokens(job)
        truncate = job.parameters.get("truncate")
        if truncate is not None and len(tokens) > truncate:
            tokens = tokens[:1] + tokens[len(tokens) - truncate + 1 :]
        return tokens, [drawing(job, self.limits, len(tokens), random.getrandbits(64)) for _ in range(job.best_of)]

    def _done(self, job: Job, tokens: list[Token], drawings: list[Drawing]) -> Done:
        adapter = job.adapter if job.adapter in self._adapters else ""
        prompt = text_of(tokens)
        try:
            writings = [write(self.model, adapter, prompt, each) for each in drawings]
        except re.error as error:
            raise failed("") from error
        has_prefill = job.parameters.get("decoder_input_details") and self.limits.prefill_logprobs
        return Done(tokens, read(self.model, adapter, tokens) if has_prefill else [], drawings, writings)


def _text(content: Any) -> str:
    """A message's text; its parts, where it comes in parts."""
    return "".join(part["text"] for part in content) if isinstance(content, list) else content or ""


def _raise(message: str) -> None:
    raise TemplateError(message)
