"""From messages to prompts: by the server or here, the same; and for templates that want strict turns, in turns."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.core.prompts import Message, in_turns
from duologue.models import ModelRefused, ModelServer, ModelUnavailable
from duologue.models.completion import GREEDY, ChatRequest
from duologue.models.connection import Connection
from duologue.models.template import OwnTemplate, ServersTemplate
from tests.support.answering_server import AnsweringServer, Asked, Reply
from tests.support.tgi_double import CHAT_TEMPLATE, TgiDouble

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Gemma's: no system message, user and assistant in turns.
STRICT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<|' + message.role + '|>' + message.content + eos_token }}{% endfor %}"
)
OPENS: list[Message] = [
    {"role": "system", "content": "You are a clerk."},
    {"role": "assistant", "content": "Hello, parcel desk."},
    {"role": "user", "content": "Hi.\n[Say now: Your code?]"},
]
texts = st.text(max_size=12)
conversations = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}),
    min_size=1,
    max_size=8,
)


def folder(path: Path, template: object, **more: object) -> str:
    (path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"} | more)
    )
    return str(path)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, STRICT], ids=["marked", "ChatML", "strict"])
@pytest.mark.parametrize("messages", [OPENS[:1], OPENS, OPENS[2:]], ids=["system", "opens", "user"])
async def test_the_prompt_is_the_same_whoever_applies_the_template(
    tmp_path: Path, template: str, messages: list[Message]
) -> None:
    async with TgiDouble(chat_template=template) as tgi, Connection(tgi.url, tgi.endpoint()) as connection:
        by_server = await ServersTemplate(connection).render(messages)
    assert by_server == await OwnTemplate(folder(tmp_path, template)).render(messages)
    assert not by_server.startswith("<s>")


async def test_a_first_token_of_many_bytes_is_cut_off_whole() -> None:
    """DeepSeek's is such: places are counted in bytes."""
    begin = "<\uff5cbegin▁of▁sentence\uff5c>"
    size = len(begin.encode())
    added = {"id": 7, "text": "", "start": 0, "stop": 0}
    prompt = {
        "templated_text": f"{begin}Grüß Gott",
        "tokenize_response": [{"id": 7, "text": begin, "start": 0, "stop": size}],
    }
    answers = {
        "/tokenize": Reply(
            [added, {"id": 9, "text": "a", "start": 0, "stop": 1}, {"id": 8, "text": "", "start": 0, "stop": 0}]
        ),
        "/chat_tokenize": Reply(prompt),
    }
    async with AnsweringServer(answers) as server, Connection(server.url, server.endpoint()) as connection:
        assert await ServersTemplate(connection).render(OPENS) == "Grüß Gott"


@pytest.mark.parametrize("answer", [{}, {"templated_text": "a"}, {"templated_text": "a", "tokenize_response": [1]}])
async def test_a_prompt_of_another_shape_is_no_answer(answer: object) -> None:
    answers = {"/tokenize": Reply([{"id": 7, "start": 0, "stop": 0}]), "/chat_tokenize": Reply(answer)}
    async with AnsweringServer(answers) as server, Connection(server.url, server.endpoint()) as connection:
        with pytest.raises(ModelUnavailable, match="a prompt of another shape"):
            await ServersTemplate(connection).render(OPENS)


async def test_a_template_file_goes_before_the_configuration(tmp_path: Path) -> None:
    path = folder(tmp_path, "old")
    (tmp_path / "chat_template.jinja").write_text("new")
    assert await OwnTemplate(path).render(OPENS) == "new"


async def test_of_several_templates_the_default_is_used(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "chat"}]
    assert await OwnTemplate(folder(tmp_path, several)).render(OPENS) == "chat"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template"),
        ([], "has no chat template"),
        ("{% if %}", "the chat template of .*Expected an expression"),
    ],
)
def test_a_folder_without_a_usable_template_is_named(tmp_path: Path, template: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OwnTemplate(folder(tmp_path, template))


async def test_a_template_can_reach_nothing_but_the_messages(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="access to attribute '__class__' of 'str' object is unsafe"):
        await OwnTemplate(folder(tmp_path, "{{ ''.__class__.__mro__ }}")).render(OPENS)


async def test_messages_that_no_template_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match="the chat template refuses the messages: never"):
        await OwnTemplate(folder(tmp_path, "{{ raise_exception('never') }}")).render(OPENS)


# Strict turns


@given(conversations)
def test_in_turns_a_user_comes_first_and_roles_alternate_and_nothing_is_lost(messages: list[Message]) -> None:
    turns = in_turns(messages)
    roles = [turn["role"] for turn in turns]
    assert set(roles) <= {"user", "assistant"}
    assert all(first != second for first, second in pairwise(roles))
    assert in_turns(turns) == turns
    assert "".join(turn["content"] for turn in turns).replace("\n", "") == "".join(
        message["content"] for message in messages
    ).replace("\n", "")


def test_an_agent_that_opens_is_led_by_what_the_system_said() -> None:
    assert in_turns(OPENS) == [{"role": "user", "content": "You are a clerk."}, *OPENS[1:]]


async def test_a_tgi_whose_template_is_strict_is_asked_in_turns_and_remembered() -> None:
    async with TgiDouble(chat_template=STRICT) as tgi, ModelServer(tgi.endpoint(patience_seconds=0)) as server:
        for _ in range(2):
            await server.replicas[0].complete(ChatRequest(OPENS, GREEDY, "tgi"))
        asked = [request.body["messages"] for request in tgi.asked("/chat_tokenize")]
    assert asked == [OPENS, in_turns(OPENS), in_turns(OPENS)]
    expected = "<|user|>You are a clerk.</s><|assistant|>Hello, parcel desk.</s><|user|>Hi.\n[Say now: Your code?]</s>"
    assert tgi.asked("/generate")[0].body["inputs"] == expected


# What the servers answered, by their issues: vLLM 6862, llama.cpp 19851, TGI 3198.
REFUSALS = {
    "vLLM": Reply({"error": {"message": "Conversation roles must alternate user/assistant/...", "code": 400}}, 400),
    "llama.cpp": Reply(
        {
            "error": {
                "code": 500,
                "message": "Jinja Exception: conversation roles must alternate",
                "type": "server_error",
            }
        },
        500,
    ),
    "no system": Reply({"message": "System role not supported", "type": "BadRequestError"}, 400),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_a_server_whose_template_is_strict_is_asked_in_turns_and_remembered(refusal: Reply) -> None:
    def chat(asked: Asked) -> Reply:
        if asked.body["messages"][0]["role"] == "system":
            return refusal
        return Reply({"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]})

    async with AnsweringServer({"/v1/chat/completions": chat}) as server, ModelServer(server.endpoint()) as models:
        for _ in range(2):
            completion = await models.replicas[0].complete(ChatRequest(OPENS, GREEDY, "served"))
            assert completion.text == "Hi."
        asked = [request.body["messages"] for request in server.asked("/v1/chat/completions")]
    assert asked == [OPENS, in_turns(OPENS), in_turns(OPENS)]


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_trouble_of_another_kind_is_not_met_with_other_messages(status: int) -> None:
    answers = {"/v1/chat/completions": Reply({"error": "the prompt is too long"}, status)}
    async with AnsweringServer(answers) as server, ModelServer(server.endpoint()) as models:
        with pytest.raises((ModelRefused, ModelUnavailable), match="the prompt is too long"):
            await models.replicas[0].complete(ChatRequest(OPENS, GREEDY, "served"))
        assert len(server.asked("/v1/chat/completions")) == 1


async def test_a_template_that_takes_neither_form_is_told_in_its_words_about_the_first() -> None:
    def chat(asked: Asked) -> Reply:
        return Reply({"error": f"role {asked.body['messages'][0]['role']}"}, 400)

    async with AnsweringServer({"/v1/chat/completions": chat}) as server, ModelServer(server.endpoint()) as models:
        with pytest.raises(ModelRefused, match="role"):
            await models.replicas[0].complete(ChatRequest(OPENS, GREEDY, "served"))
