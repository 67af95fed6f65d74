"""What kinds of OpenAI-compatible servers take and tell that others do not: data, so that another one is another row.

Sources: the servers' own pages, November 2026. vLLM "OpenAI-Compatible Server", "Structured Outputs", "Production
metrics", "LoRA adapters"; SGLang "Sampling parameters", "Production metrics"; llama.cpp tools/server/README.md; Ollama
"OpenAI compatibility"; transformers "serve"; OpenAI "Create chat completion".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauges:
    """Names of what a server tells at /metrics about how busy it is.

    `running` and `waiting` count requests, `memory` is the share of its key-value cache that is in use, in [0, 1]; ""
    for what it does not tell.
    """

    running: str
    waiting: str
    memory: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server.

    `owners`: what it calls the owner of its models in /v1/models, by which it is known. `pattern`: the fields that lead
    to where it takes a regular expression for the answer, () where it takes none. `top_logprobs`: the most that it
    tells for each token, 0 where it tells none. `limit`: its name for the most tokens of an answer. `has_top_k`: takes
    `top_k`. `cached`: the fields that lead to the prompt tokens that it did not have to read again. `loads_adapters`:
    POST /v1/load_lora_adapter.
    """

    name: str
    owners: tuple[str, ...] = ()
    pattern: tuple[str, ...] = ()
    top_logprobs: int = 0
    limit: str = "max_tokens"
    has_top_k: bool = False
    cached: tuple[str, ...] = ("usage", "prompt_tokens_details", "cached_tokens")
    loads_adapters: bool = False
    gauges: Gauges | None = None


VLLM = Dialect(
    "vLLM",
    owners=("vllm",),
    pattern=("structured_outputs", "regex"),
    top_logprobs=20,
    has_top_k=True,
    loads_adapters=True,
    gauges=Gauges(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        memory="vllm:kv_cache_usage_perc",
    ),
)
SGLANG = Dialect(
    "SGLang",
    owners=("sglang",),
    pattern=("regex",),
    top_logprobs=20,
    has_top_k=True,
    gauges=Gauges(running="sglang:num_running_reqs", waiting="sglang:num_queue_reqs", memory="sglang:token_usage"),
)
LLAMA_CPP = Dialect(
    "llama.cpp",
    owners=("llamacpp",),
    top_logprobs=20,
    has_top_k=True,
    cached=("timings", "cache_n"),
    gauges=Gauges(running="llamacpp:requests_processing", waiting="llamacpp:requests_deferred"),
)
LLAMA_CPP_PYTHON = Dialect("llama-cpp-python", owners=("me",), top_logprobs=20, has_top_k=True)
OLLAMA = Dialect("Ollama", owners=("library",), top_logprobs=20)
# Its newer models refuse `max_tokens`; the others here know no other name, or have both.
OPENAI = Dialect(
    "OpenAI", owners=("openai", "system", "openai-internal"), top_logprobs=20, limit="max_completion_tokens"
)
# Any other, `transformers serve` among them: only what all take. Log-probabilities are a standard field that some
# refuse or leave out; that shows when they are asked for.
OTHER = Dialect("OpenAI-compatible", top_logprobs=5)

DIALECTS = (VLLM, SGLANG, LLAMA_CPP, LLAMA_CPP_PYTHON, OLLAMA, OPENAI)


def dialect_of(owner: str, model: str) -> Dialect:
    """The kind of server that names this owner of this model.

    `transformers serve` names the author, who stands in the model's name too; one of them is called openai.
    """
    if model.startswith(f"{owner}/"):
        return OTHER
    return next((dialect for dialect in DIALECTS if owner in dialect.owners), OTHER)
