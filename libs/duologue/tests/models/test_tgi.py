"""TGI's own API: what is asked, what is made of the answer, and which adapter it is asked of."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from duologue.core.prompts import Message
from duologue.models import ChatModel, Completion, ModelRefused, ModelServer, ModelUnavailable, Sampling
from duologue.models.completion import GREEDY, ChatRequest
from duologue.models.fingerprint import Fingerprint
from tests.support.answering_server import AnsweringServer, Reply
from tests.support.eventually import eventually
from tests.support.tgi_double import TgiDouble
from tests.support.tgi_model import ScriptedModel
from tests.support.tgi_requests import Limits

HELLO: list[Message] = [{"role": "system", "content": "You are a clerk."}, {"role": "user", "content": "Hello."}]
GENERATE = "/generate"


@pytest.fixture
async def model() -> ScriptedModel:
    return ScriptedModel(lambda adapter, _: "Tuned." if adapter else "Good morning to you.")


@pytest.fixture
async def tgi(model: ScriptedModel) -> AsyncIterator[TgiDouble]:
    async with TgiDouble(model, adapters=("tuned",)) as double:
        yield double


async def complete(tgi: TgiDouble, request: ChatRequest, **changes: object) -> Completion:
    async with ModelServer(tgi.endpoint(patience_seconds=0, **changes)) as server:
        server.expect("tuned", Fingerprint(max_tokens=1, probes=[]))
        return await server.replicas[0].complete(request)


async def test_text_and_counts_are_the_server_s(tgi: TgiDouble) -> None:
    completion = await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi"))
    assert completion.text == "Good morning to you."
    assert not completion.is_cut
    assert completion.completion_tokens == 6  # with the one that ends
    assert completion.prompt_tokens == len(tgi.model.tokens(tgi.asked(GENERATE)[0].body["inputs"])) + 1


async def test_the_prompt_is_the_server_s_template_and_begins_once(tgi: TgiDouble) -> None:
    await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi"))
    assert tgi.asked(GENERATE)[0].body["inputs"] == "<|system|>You are a clerk.</s><|user|>Hello.</s><|assistant|>"


async def test_a_model_or_a_template_asked_for_once_is_not_asked_for_again(tgi: TgiDouble) -> None:
    async with ModelServer(tgi.endpoint()) as server:
        for _ in range(3):
            await server.replicas[0].complete(ChatRequest(HELLO, GREEDY, "tgi"))
    assert [request.path for request in tgi.requests] == [
        "/chat_tokenize",
        "/tokenize",
        GENERATE,
        *("/chat_tokenize", GENERATE) * 2,
    ]


@pytest.mark.parametrize(
    ("sampling", "seed", "sent"),
    [
        (GREEDY, 3, {"do_sample": False}),
        (Sampling(0.5, 1.0, 100, 0), None, {"do_sample": True, "temperature": 0.5}),
        (
            Sampling(0.5, 0.9, 100, 40),
            3,
            {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "seed": 3},
        ),
    ],
    ids=["greedy", "no limits", "all limits"],
)
async def test_nothing_is_sent_that_tgi_would_refuse_or_take_for_sampling(
    tgi: TgiDouble, sampling: Sampling, seed: int | None, sent: dict[str, object]
) -> None:
    await complete(tgi, ChatRequest(HELLO, sampling, "tgi", seed=seed))
    parameters = tgi.asked(GENERATE)[0].body["parameters"]
    names = ("do_sample", "temperature", "top_p", "top_k", "typical_p", "seed", "best_of", "repetition_penalty")
    assert {name: parameters[name] for name in names if name in parameters} == sent


@pytest.mark.parametrize(
    ("name", "text"), [("tuned", "Tuned."), ("tgi", "Good morning to you."), ("", "Good morning to you.")]
)
async def test_an_adapter_is_asked_for_by_name_and_the_base_model_by_none(tgi: TgiDouble, name: str, text: str) -> None:
    completion = await complete(tgi, ChatRequest(HELLO, GREEDY, name))
    assert completion.text == text
    assert tgi.asked(GENERATE)[0].body["parameters"].get("adapter_id") == ("tuned" if name == "tuned" else None)


async def test_the_model_of_the_settings_is_the_base_model(tgi: TgiDouble) -> None:
    await complete(tgi, ChatRequest(HELLO, GREEDY, "meta/Llama"), model="meta/Llama")
    assert "adapter_id" not in tgi.asked(GENERATE)[0].body["parameters"]


async def test_a_name_that_nobody_knows_is_not_left_to_the_base_model(tgi: TgiDouble) -> None:
    with pytest.raises(ModelRefused, match="'no-such' is no adapter that is known"):
        await complete(tgi, ChatRequest(HELLO, GREEDY, "no-such"))
    assert tgi.asked(GENERATE) == []


async def test_what_it_stopped_at_is_not_part_of_the_answer(tgi: TgiDouble, model: ScriptedModel) -> None:
    model.say = lambda *_: "Hello. Client: Hi!"
    completion = await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi", stop=["Client:"]))
    assert (completion.text, completion.is_cut) == ("Hello. ", False)


async def test_more_stops_than_it_takes_are_left_out(tgi: TgiDouble) -> None:
    await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi", stop=["1", "2", "3", "4", "5"]))
    assert tgi.asked(GENERATE)[0].body["parameters"]["stop"] == ["1", "2", "3", "4"]


async def test_an_answer_that_ran_into_the_limit_is_cut(tgi: TgiDouble) -> None:
    completion = await complete(tgi, ChatRequest(HELLO, Sampling(0.0, 1.0, 2), "tgi"))
    assert (completion.text, completion.is_cut, completion.completion_tokens) == ("Good morning", True, 2)


async def test_a_pattern_holds_the_answer_and_is_told_with_its_chances(tgi: TgiDouble, model: ScriptedModel) -> None:
    model.weigh = lambda _, written: {"A": 0.2, "B": 0.5, "C": 0.2, "Well": 0.1} if not written else None
    completion = await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi", pattern="[A-C]", top_logprobs=20))
    assert completion.text == "B"
    chances = {text: math.exp(logprob) for text, logprob in completion.tokens[0].logprobs.items()}
    assert chances == pytest.approx({"A": 2 / 9, "B": 5 / 9, "C": 2 / 9})
    assert tgi.asked(GENERATE)[0].body["parameters"]["top_n_tokens"] == 5


async def test_a_chance_that_is_no_number_is_not_told(tgi: TgiDouble, model: ScriptedModel) -> None:
    model.next = lambda *_: {"A": -0.5, "B": math.nan, "</s>": -1.0}  # type: ignore[method-assign]
    completion = await complete(tgi, ChatRequest(HELLO, Sampling(0.0, 1.0, 1), "tgi", top_logprobs=3))
    assert dict(completion.tokens[0].logprobs) == {"A": -0.5, "</s>": -1.0}


async def test_a_prompt_that_is_too_long_is_refused_in_tgi_s_words() -> None:
    async with TgiDouble(limits=Limits(input_tokens=10, total_tokens=20)) as tgi:
        with pytest.raises(ModelRefused, match=r"ValidationError: .*answered 422: .*must be <= 20") as caught:
            await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi"))
    assert caught.value.status == 422


async def test_a_wrong_key_is_refused() -> None:
    async with TgiDouble(api_key="s3cret") as tgi:
        for wrong in ({}, {"api_key": "other"}):
            with pytest.raises(ModelRefused, match="answered 401"):
                await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi"), **wrong)
        assert (await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi"), api_key="s3cret")).text == "Yes."


async def test_a_dead_shard_passes(tgi: TgiDouble) -> None:
    tgi.shard_is_dead = True
    with pytest.raises(ModelUnavailable, match=r"GenerationError: .*answered 424: .*Connection refused") as caught:
        await complete(tgi, ChatRequest(HELLO, GREEDY, "tgi"))
    assert caught.value.status == 424


async def test_an_overloaded_server_is_asked_again_until_it_has_room() -> None:
    async with TgiDouble(limits=Limits(concurrent_requests=1)) as tgi, ModelServer(tgi.endpoint()) as server:
        tgi.may_write.clear()
        chat = ChatModel(server)
        first, second = (asyncio.create_task(chat.complete(HELLO, GREEDY)) for _ in range(2))

        async def are_both_asked() -> bool:
            return len(tgi.asked(GENERATE)) == 2

        await eventually(are_both_asked, "one takes the slot, the other is refused")
        tgi.may_write.set()
        assert [(await first).text, (await second).text] == ["Yes.", "Yes."]
    assert len(tgi.asked(GENERATE)) >= 3


async def test_a_request_that_is_given_up_frees_its_slot() -> None:
    async with (
        TgiDouble(limits=Limits(concurrent_requests=1)) as tgi,
        ModelServer(tgi.endpoint(patience_seconds=0)) as server,
    ):
        tgi.may_write.clear()
        lost = asyncio.create_task(ChatModel(server).complete(HELLO, GREEDY))

        async def is_busy() -> bool:
            return tgi.running == 1

        async def is_free() -> bool:
            return tgi.running == 0

        await eventually(is_busy, "the request has the slot")
        lost.cancel()
        await eventually(is_free, "the slot is free again")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"generated_text": "Hi."},
        {"generated_text": "Hi.", "details": {}},
        {"generated_text": 5, "details": None},
        {"error": "shard died"},
    ],
)
async def test_an_answer_of_another_shape_is_no_answer(tgi: TgiDouble, answer: object) -> None:
    info = {
        "router": "text-generation-router",
        "model_id": "m",
        "version": "3.3.7",
        "max_total_tokens": 4096,
        "max_stop_sequences": 4,
        "max_concurrent_requests": 128,
    }
    tokens = [{"id": 5, "text": "a", "start": 0, "stop": 1}]
    answers = {
        "/info": Reply(info),
        "/tokenize": Reply(tokens),
        "/chat_tokenize": Reply({"templated_text": "a", "tokenize_response": tokens}),
        GENERATE: Reply(answer),
    }
    async with AnsweringServer(answers) as server, ModelServer(server.endpoint()) as models:
        with pytest.raises(ModelUnavailable, match="an answer of another shape"):
            await models.replicas[0].complete(ChatRequest(HELLO, GREEDY, "served"))
