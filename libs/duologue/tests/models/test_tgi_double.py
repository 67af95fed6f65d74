"""The imitated TGI answers each recorded request as the real one did: 180 records, none of them left out.

Its rules are its own; the model behind it here writes greedily what the recorded one wrote. Statuses, refusals, counts
of tokens, greedy texts and log-probabilities are held to the letter. Where the real model drew, was held to a grammar
or watermarked, its words are its own: then the answer has the same shape, and keeps what it promised. Of a body that
is no JSON, or not of TGI's types, the place where reading stopped is not compared; of /metrics, only the names.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import Any

import aiohttp
import pytest

from tests.support.eventually import eventually
from tests.support.requirements import require_tgi
from tests.support.tgi_double import TgiDouble
from tests.support.tgi_model import Grammar
from tests.support.tgi_recordings import ADAPTERS, KEY, Answer, Record, RecordedModel, recorded
from tests.support.tgi_requests import drawing

RECORDS = recorded()
_HEADERS = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "allow",
    "cache-control",
    "content-type",
    "vary",
    "x-accel-buffering",
    "x-compute-characters",
    "x-compute-type",
    "x-prompt-tokens",
]
_TIMES = re.compile(r"x-.*-time|x-time-per-token|x-compute-time")
_PLACE = re.compile(r" at line \d+ column \d+$|(?<=as JSON: ).*")


@pytest.fixture(scope="module")
def model() -> RecordedModel:
    return RecordedModel(RECORDS)


def test_all_records_are_there_and_none_twice() -> None:
    require_tgi()
    assert len(RECORDS) == len({record.name for record in RECORDS}) == 180


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
async def test_the_double_answers_as_the_real_one_did(record: Record, model: RecordedModel) -> None:
    async with _double(record, model) as double:
        answers = await _replay(record, double)
    assert Counter(map(_kind, answers)) == Counter(map(_kind, record.answers))
    for answer, real in zip(_in_order(answers), _in_order(record.answers), strict=True):
        _compare_headers(answer, real, exactly=not record.is_the_models)
        _compare(record, answer, real)


def _double(record: Record, model: RecordedModel) -> TgiDouble:
    double = TgiDouble(
        model,
        record.limits,
        adapters=ADAPTERS if record.name.startswith("lora_") else (),
        api_key=KEY if record.name.startswith("apikey_") else "",
    )
    double.shard_is_dead = record.name.startswith("shard_dead_")
    return double


async def _replay(record: Record, double: TgiDouble) -> list[Answer]:
    """All requests of the record at once: nothing is written before those are refused that have no slot."""
    refused = [answer for answer in record.answers if _kind(answer) == "overloaded"]
    if record.at_once > 1:
        double.may_write.clear()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(session, record, double.url)) for _ in range(record.at_once)]

        async def are_refused() -> bool:
            return sum(task.done() for task in tasks) >= len(refused)

        await eventually(are_refused, "the requests without a slot are refused")
        double.may_write.set()
    return [task.result() for task in tasks]


async def _ask(session: aiohttp.ClientSession, record: Record, url: str) -> Answer:
    async with session.request(
        record.method, url + record.path, data=record.payload or None, headers=record.headers
    ) as response:
        text = (await response.read()).decode()
        return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, text)


def _kind(answer: Answer) -> str:
    if "Model is overloaded" in answer.text:
        return "overloaded"
    return f"{answer.status} {'stream' if answer.is_stream else ''}"


def _in_order(answers: Any) -> list[Answer]:
    """Of requests that were sent together, those that were refused first."""
    return sorted(answers, key=_kind, reverse=True)


def _compare_headers(answer: Answer, real: Answer, *, exactly: bool) -> None:
    names = [name for name in _HEADERS if name in real.headers]
    found = {name: answer.headers.get(name) for name in names}
    assert found == {name: real.headers[name] for name in names}
    assert {name for name in real.headers if _TIMES.fullmatch(name)} <= answer.headers.keys()
    if "x-generated-tokens" in real.headers:
        generated = answer.headers["x-generated-tokens"]
        assert generated == real.headers["x-generated-tokens"] if exactly else int(generated) > 0


def _compare(record: Record, answer: Answer, real: Answer) -> None:
    if record.path == "/metrics":
        ours, theirs = _names_of_metrics(answer.text), _names_of_metrics(real.text)
        assert ours
        assert ours <= theirs
    elif not (real.is_json or real.is_stream):
        assert _PLACE.sub("", answer.text) == _PLACE.sub("", real.text)
    elif not record.is_the_models or "error" in _first(real):
        assert _exact(answer, record) == _exact(real, record)
    else:
        assert shape(_first(answer)) == shape(_first(real))
        _assert_kept(record, answer)


def _names_of_metrics(text: str) -> set[str]:
    """With their types."""
    return {line for line in text.splitlines() if line.startswith("# TYPE")}


def _first(answer: Answer) -> Any:
    """What the answer is like; of a stream, its first event."""
    return answer.events[0] if answer.is_stream else answer.content


def _exact(answer: Answer, record: Record) -> Any:
    """All but the second when it was made, and what was cut from the recording."""
    content = answer.events if answer.is_stream else answer.content
    if any(each.is_cut for each in record.answers):
        content = content[:3] if answer.is_stream else shape(content)
    return json.loads(re.sub(r'"created": \d+', '"created": 0', json.dumps(content)))


def shape(value: Any) -> Any:
    """The names and types of an answer without its figures; of a list, what it is a list of. Numbers are alike."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return float if isinstance(value, int | float) else type(value)


def _assert_kept(record: Record, answer: Answer) -> None:
    """What every generation promises, whatever was drawn."""
    if answer.is_stream:
        assert (answer.events[-1] == "[DONE]") == record.path.startswith("/v1/")
    elif "usage" in answer.content:
        usage = answer.content["usage"]
        assert usage["prompt_tokens"] == int(answer.headers["x-prompt-tokens"])
        assert usage["completion_tokens"] == int(answer.headers["x-generated-tokens"])
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    if len(record.jobs) > 1:
        assert {choice["index"] for choice in answer.content["choices"]} == set(range(len(record.jobs)))
        return
    (job,) = record.jobs
    text, finish, generated = _outcome(answer)
    most = job.parameters.get("max_new_tokens") or record.limits.total_tokens
    assert 0 < generated <= most
    match finish:
        case "length" if job.parameters.get("max_new_tokens"):
            assert generated == most
        case "stop_sequence":
            assert text.endswith(tuple(job.parameters["stop"]))
        case "stop" | "eos_token" if job.parameters.get("grammar"):
            assert Grammar(drawing(job, record.limits, 0, 0).pattern).is_whole(text)


def _outcome(answer: Answer) -> tuple[str, str, int]:
    """Text, how it ended ("" where that is not told), and number of tokens."""
    if not answer.is_stream:
        generated = int(answer.headers["x-generated-tokens"])
        content = answer.content[0] if isinstance(answer.content, list) else answer.content
        if "choices" not in content:
            return content["generated_text"], content.get("details", {}).get("finish_reason", ""), generated
        (choice,) = content["choices"]
        return (
            choice["message"]["content"] if "message" in choice else choice["text"],
            choice["finish_reason"],
            generated,
        )
    events = [event for event in answer.events if event != "[DONE]"]
    if "token" in events[0]:
        details = events[-1]["details"] or {}
        return events[-1]["generated_text"], details.get("finish_reason", ""), len(events)
    choices = [choice for event in events for choice in event["choices"]]
    text = "".join(choice["delta"]["content"] if "delta" in choice else choice["text"] for choice in choices)
    return text, choices[-1]["finish_reason"], len(choices)
