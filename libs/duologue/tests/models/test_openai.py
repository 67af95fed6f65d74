"""Chat completions of each kind of server: known by what it lists, asked in its own words, and read in them.

What the servers list and answer is theirs by their documentation and issues, November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from duologue.core.prompts import Message
from duologue.models import Completion, ModelServer, Sampling
from duologue.models.completion import GREEDY, ChatRequest
from duologue.models.dialects import DIALECTS, OTHER
from tests.support.answering_server import AnsweringServer, Reply

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
HELLO: list[Message] = [{"role": "user", "content": "Hello."}]
ASKED = ChatRequest(HELLO, Sampling(0.5, 0.75, 40, 20), "served", ("Client:",), 5, "[A-C]", 5)

# By the name of the dialect: what it lists, and what is sent beyond what is sent to all.
LISTED: Mapping[str, Any] = {
    "vLLM": {"id": "org/base", "object": "model", "owned_by": "vllm", "max_model_len": 8192, "parent": None},
    "SGLang": {"id": "org/base", "object": "model", "owned_by": "sglang", "max_model_len": 8192},
    "llama.cpp": {"id": "base.gguf", "owned_by": "llamacpp", "meta": {"n_ctx": 8192, "n_ctx_train": 32768}},
    "llama-cpp-python": {"id": "base.gguf", "object": "model", "owned_by": "me", "permissions": []},
    "Ollama": {"id": "base:1b", "object": "model", "created": 1795374690, "owned_by": "library"},
    "OpenAI": {"id": "gpt-5-mini", "object": "model", "created": 1795374690, "owned_by": "system"},
    "OpenAI-compatible": {"id": "org/base", "object": "model", "created": 1795374690.5, "owned_by": "org"},
}
SENT: Mapping[str, Any] = {
    "vLLM": {"max_tokens": 40, "top_k": 20, "structured_outputs": {"regex": "[A-C]"}},
    "SGLang": {"max_tokens": 40, "top_k": 20, "regex": "[A-C]"},
    "llama.cpp": {"max_tokens": 40, "top_k": 20},
    "llama-cpp-python": {"max_tokens": 40, "top_k": 20},
    "Ollama": {"max_tokens": 40},
    "OpenAI": {"max_completion_tokens": 40},
    "OpenAI-compatible": {"max_tokens": 40},
}
TO_ALL = {
    "model": "served",
    "messages": HELLO,
    "temperature": 0.5,
    "top_p": 0.75,
    "stop": ["Client:"],
    "seed": 5,
    "logprobs": True,
    "top_logprobs": 5,
}
SAID = {"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def listing(*models: Any) -> Reply:
    return Reply({"object": "list", "data": list(models)})


async def complete(server: AnsweringServer, request: ChatRequest = ASKED) -> Completion:
    async with ModelServer(server.endpoint()) as models:
        return await models.replicas[0].complete(request)


def test_every_dialect_is_tried_here() -> None:
    assert LISTED.keys() == SENT.keys() == {dialect.name for dialect in (*DIALECTS, OTHER)}


@pytest.mark.parametrize("name", LISTED)
async def test_a_server_is_known_by_what_it_lists_and_asked_in_its_own_words(name: str) -> None:
    answers = {MODELS: listing(LISTED[name]), CHAT: Reply({"choices": [SAID], "usage": USAGE})}
    async with AnsweringServer(answers) as server, ModelServer(server.endpoint()) as models:
        (replica,) = models.replicas
        assert (await replica.complete(ASKED)).text == "Hi."
        known = await replica.capabilities()
        assert known.dialect.name == name
        assert known.max_tokens == (8192 if name in ("vLLM", "SGLang", "llama.cpp") else 0)
        assert server.asked(CHAT)[0].body == TO_ALL | SENT[name]


async def test_a_library_of_that_name_is_not_taken_for_the_hosted_one() -> None:
    """transformers serve names the author of each model in its cache."""
    author = {"id": "openai/gpt-oss-20b", "object": "model", "owned_by": "openai"}
    async with AnsweringServer({MODELS: listing(author)}) as server, ModelServer(server.endpoint()) as models:
        assert (await models.replicas[0].capabilities()).dialect is OTHER


CACHED: Mapping[str, Any] = {
    "vLLM": {"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 8}}},
    "SGLang": {"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 8}}},
    "OpenAI": {"usage": USAGE | {"prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0}}},
    "llama.cpp": {"usage": USAGE, "timings": {"cache_n": 8, "prompt_n": 4, "predicted_n": 3}},
}


@pytest.mark.parametrize("name", CACHED)
async def test_tokens_that_the_prefix_cache_had_are_counted(name: str) -> None:
    answers = {MODELS: listing(LISTED[name]), CHAT: Reply({"choices": [SAID], **CACHED[name]})}
    async with AnsweringServer(answers) as server:
        assert (await complete(server)).cached_tokens == 8


@pytest.mark.parametrize("usage", [USAGE, USAGE | {"prompt_tokens_details": None}, None])
async def test_a_server_that_does_not_tell_of_its_cache_is_not_said_to_have_none(usage: Any) -> None:
    """vLLM tells it only with --enable-prompt-tokens-details, SGLang with --enable-cache-report."""
    answers = {MODELS: listing(LISTED["vLLM"]), CHAT: Reply({"choices": [SAID], "usage": usage})}
    async with AnsweringServer(answers) as server:
        assert (await complete(server)).cached_tokens is None


LOGPROBS: Mapping[str, Any] = {
    "as OpenAI's": (
        {
            "content": [
                {"token": "B", "logprob": -0.5, "bytes": [66], "top_logprobs": [{"token": "A", "logprob": -1.5}]}
            ]
        },
        [("B", {"A": -1.5, "B": -0.5})],
    ),
    "none of the others": ({"content": [{"token": "B", "logprob": -0.5, "top_logprobs": []}]}, [("B", {"B": -0.5})]),
    "without the others": ({"content": [{"token": "B", "logprob": -0.5}]}, [("B", {"B": -0.5})]),
    "null for what is no number": (
        {"content": [{"token": "B", "logprob": None, "top_logprobs": [{"token": "A", "logprob": -1.5}]}]},
        [("B", {"A": -1.5})],
    ),
    "more than certain": ({"content": [{"token": "B", "logprob": 1e-7}]}, [("B", {"B": 0.0})]),
    "of the old completions": ({"tokens": ["B"], "token_logprobs": [-0.5], "text_offset": [0]}, []),
    "left out": (None, []),
    "of nothing": ({"content": None}, []),
}


@pytest.mark.parametrize(("logprobs", "expected"), LOGPROBS.values(), ids=LOGPROBS)
async def test_log_probabilities_are_read_where_they_are_told(logprobs: Any, expected: Any) -> None:
    answers = {MODELS: listing(LISTED["vLLM"]), CHAT: Reply({"choices": [SAID | {"logprobs": logprobs}]})}
    async with AnsweringServer(answers) as server:
        completion = await complete(server)
    assert [(token.text, dict(token.logprobs)) for token in completion.tokens] == expected


@pytest.mark.parametrize(
    ("reason", "is_cut"), [("stop", False), ("length", True), ("stop_sequence", False), (None, False)]
)
async def test_only_an_answer_that_ran_into_its_limit_is_cut(reason: str | None, is_cut: bool) -> None:
    answers = {CHAT: Reply({"choices": [SAID | {"finish_reason": reason}]})}
    async with AnsweringServer(answers) as server:
        assert (await complete(server)).is_cut == is_cut


@pytest.mark.parametrize("text", ["Hello. ", "Hello. Client:"])
async def test_what_it_stopped_at_is_not_part_of_the_answer(text: str) -> None:
    """OpenAI's leave it out, TGI and transformers serve don't."""
    answers = {CHAT: Reply({"choices": [SAID | {"message": {"content": text}}]})}
    async with AnsweringServer(answers) as server:
        assert (await complete(server)).text == "Hello. "


async def test_what_is_not_asked_for_is_not_sent() -> None:
    answers = {MODELS: listing(LISTED["vLLM"]), CHAT: Reply({"choices": [SAID]})}
    async with AnsweringServer(answers) as server:
        await complete(server, ChatRequest(HELLO, GREEDY, "served"))
        sent = server.asked(CHAT)[0].body
    assert sent.keys() == {"model", "messages", "temperature", "top_p", "max_tokens"}
