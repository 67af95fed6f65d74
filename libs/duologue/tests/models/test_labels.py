"""Decisions by letters: a distribution over the options from what a chat server tells of one token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.prompts import Question
from duologue.models import DecisionModel, ModelRefused, ModelServer
from duologue.models.completion import Completion, TokenChoice
from duologue.models.labels import _distribution, _weighed
from tests.support.answering_server import AnsweringServer, Reply
from tests.support.tgi_double import TgiDouble
from tests.support.tgi_model import ScriptedModel

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
REPLY: Question = {
    "type": "choice",
    "instructions": "Which?",
    "criteria": {"a": "First.", "b": "Second.", "c": "Third."},
}
OVER: Question = {"type": "noul", "instructions": "Is it over?"}
VLLM = Reply({"data": [{"id": "served", "owned_by": "vllm"}]})

counts = st.integers(2, 26)
logprobs = st.floats(-30, 0) | st.just(-9999.0) | st.just(-math.inf)


@st.composite
def told(draw: st.DrawFn) -> tuple[list[str], TokenChoice]:
    """Some options, and what a server might tell of the token: letters, with and without a space, and other tokens."""
    options = [f"option {place}" for place in range(draw(counts))]
    letters = ascii_uppercase[: len(options)]
    texts = st.sampled_from([*letters, *(f" {letter}" for letter in letters), "\n", "The", "AB", "a", ""])
    chances = draw(st.dictionaries(texts, logprobs, max_size=20))
    chosen = draw(st.sampled_from(letters))
    return options, TokenChoice(chosen, {chosen: draw(logprobs)} | chances)


@given(told())
def test_every_option_has_a_probability_and_they_sum_to_one(case: tuple[list[str], TokenChoice]) -> None:
    options, token = case
    decision = _distribution("q", options, token)
    assert list(decision.probabilities) == options
    assert all(0 <= probability <= 1 for probability in decision.probabilities.values())
    assert sum(decision.probabilities.values()) == pytest.approx(1)
    assert decision.probability == max(decision.probabilities.values())


@given(told(), st.randoms())
def test_in_which_order_tokens_are_told_does_not_matter(case: tuple[list[str], TokenChoice], dice: Any) -> None:
    options, token = case
    items = list(token.logprobs.items())
    dice.shuffle(items)
    shuffled = _distribution("q", options, TokenChoice(token.text, dict(items)))
    assert shuffled.probabilities == pytest.approx(_distribution("q", options, token).probabilities)


@given(told())
def test_which_option_has_which_letter_does_not_matter(case: tuple[list[str], TokenChoice]) -> None:
    options, token = case
    letters = ascii_uppercase[: len(options)]
    turn = str.maketrans(letters, letters[::-1])
    turned = {
        text.translate(turn) if text.strip() in set(letters) else text: chance
        for text, chance in token.logprobs.items()
    }
    mirrored = _distribution("q", options[::-1], TokenChoice(token.text.translate(turn), turned))
    assert mirrored.probabilities == pytest.approx(_distribution("q", options, token).probabilities)


@given(told())
def test_a_letter_that_is_told_to_be_likelier_is_not_less_likely(case: tuple[list[str], TokenChoice]) -> None:
    options, token = case
    chances = [
        sum(math.exp(token.logprobs.get(text, -math.inf)) for text in (letter, f" {letter}"))
        for letter in ascii_uppercase[: len(options)]
    ]
    found = list(_distribution("q", options, token).probabilities.values())
    pairs = list(zip(chances, found, strict=True))
    assert all(probability >= less - 1e-12 for one, probability in pairs for other, less in pairs if one > other)


def test_a_letter_and_the_same_after_a_space_are_one() -> None:
    token = TokenChoice("A", {"A": math.log(0.3), " A": math.log(0.3), "B": math.log(0.2), "The": math.log(0.2)})
    assert _distribution("q", ["x", "y"], token).probabilities == pytest.approx({"x": 0.75, "y": 0.25})


def test_a_letter_that_is_not_told_has_what_is_left_but_no_more_than_the_least_that_is() -> None:
    token = TokenChoice("A", {"A": math.log(0.6), "B": math.log(0.3)})
    assert _distribution("q", ["x", "y", "z"], token).probabilities == pytest.approx({"x": 0.6, "y": 0.3, "z": 0.1})
    token = TokenChoice("A", {"A": math.log(0.5), "The": math.log(0.05)})
    assert _distribution("q", ["x", "y"], token).probabilities == pytest.approx({"x": 0.5 / 0.55, "y": 0.05 / 0.55})


def test_letters_are_read_in_the_order_of_the_questions_and_nothing_else_is_one() -> None:
    written = ["1", ".", " AB", " D", "B", "\n", "2", ".", " A"]
    tokens = tuple(TokenChoice(text, {text: -0.1}) for text in written)
    completion = Completion("", is_cut=False, prompt_tokens=0, completion_tokens=0, tokens=tokens)
    found = _weighed(completion, {"one": ["x", "y", "z"], "two": ["x", "y"], "three": ["x", "y"]})
    assert {name: decision.answer for name, decision in found.items()} == {"one": "y", "two": "x"}


def test_a_letter_of_which_no_number_is_told_is_not_read() -> None:
    completion = Completion("A", is_cut=False, prompt_tokens=0, completion_tokens=0, tokens=(TokenChoice("A", {}),))
    assert _weighed(completion, {"one": ["x", "y"]}) == {}


# The ladder


async def ask(server: AnsweringServer | TgiDouble, questions: Mapping[str, Question], **changes: Any) -> Any:
    async with ModelServer(server.endpoint(patience_seconds=0, **changes)) as models:
        return await DecisionModel(models).ask("Client: Hello.", questions)


def chance_of(weights: Mapping[str, Mapping[str, float]]) -> ScriptedModel:
    """Letters with these probabilities, by what was written before."""
    return ScriptedModel(lambda *_: "A A A", lambda _, written: weights.get(written))


async def test_tgi_answers_all_questions_in_one_request_with_a_letter_for_each() -> None:
    model = chance_of({"": {"A": 0.1, "B": 0.6, "C": 0.1, "Well": 0.2}, "B ": {"A": 0.3, "B": 0.7}})
    async with TgiDouble(model) as tgi:
        answers = await ask(tgi, {"reply": REPLY, "over": OVER})
        (request,) = tgi.asked("/generate")
    assert answers.decisions["reply"].probabilities == pytest.approx({"a": 0.125, "b": 0.75, "c": 0.125})
    assert answers.decisions["over"].probabilities == pytest.approx({"yes": 0.3, "no": 0.7})
    assert request.body["parameters"]["grammar"] == {"type": "regex", "value": "[A-C] [A-B]"}
    assert "temperature" not in request.body["parameters"]
    assert (answers.usage.prompt_tokens, answers.usage.completion_tokens) == (
        len(tgi.model.tokens(request.body["inputs"])) + 1,
        4,
    )


async def test_the_state_stands_before_the_questions_so_that_its_prefix_is_cached() -> None:
    async with TgiDouble(chance_of({})) as tgi:
        await ask(tgi, {"over": OVER})
        prompt = tgi.asked("/generate")[0].body["inputs"]
    assert prompt.index("Client: Hello.") < prompt.index("Is it over?")


async def test_a_close_choice_is_asked_once_more_the_other_way_round_and_averaged() -> None:
    model = chance_of({"": {"A": 0.45, "B": 0.40, "C": 0.15}})
    async with TgiDouble(model) as tgi:
        answers = await ask(tgi, {"reply": REPLY, "over": OVER})
        first, second = tgi.asked("/generate")
    # The model likes letters, not answers: a and c share the first place.
    assert answers.decisions["reply"].probabilities == pytest.approx({"a": 0.3, "b": 0.4, "c": 0.3})
    assert answers.decisions["reply"].answer == "b"
    assert "A) First." in first.body["inputs"]
    assert "A) Third." in second.body["inputs"]
    assert second.body["parameters"]["grammar"]["value"] == "[A-C]"


def chat(content: str, logprobs: Any = None) -> Reply:
    choice = {"message": {"content": content}, "finish_reason": "stop", "logprobs": logprobs}
    return Reply({"choices": [choice], "usage": {"prompt_tokens": 30, "completion_tokens": 3}})


async def test_a_server_that_has_typed_decisions_is_asked_for_no_letters() -> None:
    typed = Reply({"answers": {"over": {"noul": 0.9}}, "usage": {"input_tokens": 9, "output_tokens": 0}})
    async with AnsweringServer({"/v1/systemone": typed, MODELS: VLLM}) as server:
        answers = await ask(server, {"over": OVER})
        assert [request.path for request in server.requests if request.path != MODELS] == ["/info", "/v1/systemone"]
    assert answers.decisions["over"].probabilities == pytest.approx({"yes": 0.9, "no": 0.1})


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_without_typed_decisions_is_asked_for_them_once(status: int) -> None:
    told = {
        "content": [
            {"token": "B", "logprob": math.log(0.8), "top_logprobs": [{"token": "A", "logprob": math.log(0.2)}]}
        ]
    }
    answers = {"/v1/systemone": Reply("", status), MODELS: VLLM, CHAT: chat("B", told)}
    async with AnsweringServer(answers) as server, ModelServer(server.endpoint()) as models:
        manager = DecisionModel(models)
        for _ in range(3):
            decision = (await manager.ask("state", {"over": OVER})).decisions["over"]
            assert decision.probabilities == pytest.approx({"yes": 0.2, "no": 0.8})
        assert len(server.asked("/v1/systemone")) == 1
        assert len(server.asked(CHAT)) == 3


async def test_where_only_a_pattern_is_had_its_letters_are_certain() -> None:
    async with AnsweringServer({MODELS: VLLM, CHAT: chat("B A")}) as server:
        answers = await ask(server, {"reply": REPLY, "over": OVER})
        assert server.asked(CHAT)[0].body["structured_outputs"] == {"regex": "[A-C] [A-B]"}
    assert answers.decisions["reply"].probabilities == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert answers.decisions["over"].probabilities == {"yes": 1.0, "no": 0.0}


async def test_free_text_is_not_taken_for_a_decision_unless_one_asks_for_it() -> None:
    async with AnsweringServer({CHAT: chat("B. And then A.")}) as server:
        with pytest.raises(ModelRefused, match=r"has neither .* set its `decisions` to auto .* or to text"):
            await ask(server, {"reply": REPLY, "over": OVER})
        answers = await ask(server, {"reply": REPLY, "over": OVER}, decisions="text")
        sent = server.asked(CHAT)[-1].body
    assert {name: decision.answer for name, decision in answers.decisions.items()} == {"reply": "b", "over": "yes"}
    assert "logprobs" not in sent


async def test_typed_decisions_that_one_asks_for_are_not_replaced() -> None:
    async with AnsweringServer({MODELS: VLLM, CHAT: chat("B A")}) as server:
        with pytest.raises(ModelRefused, match="/v1/systemone answered 404"):
            await ask(server, {"over": OVER}, decisions="systemone")
        assert not server.asked(CHAT)


async def test_a_question_that_was_not_answered_is_open() -> None:
    async with AnsweringServer({MODELS: VLLM, CHAT: chat("B")}) as server:
        answers = await ask(server, {"reply": REPLY, "over": OVER})
    assert answers.decisions["over"].probabilities == {"yes": 0.5, "no": 0.5}


@pytest.mark.parametrize("text", ["", "I do not know.", "Z", "42"])
async def test_an_answer_without_a_letter_is_no_answer(text: str) -> None:
    async with AnsweringServer({MODELS: VLLM, CHAT: chat(text)}) as server:
        with pytest.raises(ModelRefused, match="answered none of the questions"):
            await ask(server, {"over": OVER})
