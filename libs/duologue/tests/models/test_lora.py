"""Adapters that a server loads when it is asked to: before they speak, under their own names, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from prometheus_client import REGISTRY

from duologue.core.prompts import Message
from duologue.models import Caller, ChatModel, ModelServer, ModelUnavailable, Sampling
from duologue.models.check import check_adapter_of
from duologue.models.fingerprint import Fingerprint, Probe, WrongAdapter
from duologue.models.lora import IDLE_SECONDS
from duologue.models.trust import TRUSTED_SECONDS, WRONG_SECONDS
from tests.support.vllm_double import BASE, VllmDouble


def folder(name: str) -> str:
    return f"adapters/{name}/adapter"


def fingerprint(name: str) -> Fingerprint:
    probes = [
        Probe(messages=[{"role": "user", "content": word}], base="Base.", adapter=f"{name} says {word}.")
        for word in ("one", "two", "three")
    ]
    return Fingerprint(max_tokens=8, probes=probes)


def weights(*names: str) -> dict[str, str]:
    return {f"/mnt/{folder(name)}": f"{name} says {{}}." for name in names}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def vllm() -> AsyncIterator[VllmDouble]:
    async with VllmDouble(weights("desk-r1", "desk-r2")) as vllm:
        yield vllm


@pytest.fixture
async def models(vllm: VllmDouble, clock: Clock) -> AsyncIterator[ModelServer]:
    async with ModelServer(vllm.endpoint(patience_seconds=0), clock=clock) as models:
        for name in ("desk-r1", "desk-r2"):
            models.expect(name, fingerprint(name), folder(name))
        yield models


async def say(models: ModelServer, model: str, dialogue: str = "") -> str:
    hello: list[Message] = [{"role": "user", "content": "Hello"}]
    return (await ChatModel(models).complete(hello, Sampling(), model=model, caller=Caller("", dialogue))).text


def told_wrong(vllm: VllmDouble, model: str) -> float | None:
    return REGISTRY.get_sample_value("duologue_model_wrong_adapter", {"server": vllm.url, "model": model})


async def test_an_adapter_is_loaded_under_its_own_name_before_it_speaks(models: ModelServer, vllm: VllmDouble) -> None:
    assert await say(models, "desk-r1") == "desk-r1 says Hello."
    assert await say(models, "desk-r2") == "desk-r2 says Hello."
    assert vllm.log == [("load", "desk-r1"), ("load", "desk-r2")]
    assert vllm.loaded == {name: f"/mnt/{folder(name)}" for name in ("desk-r1", "desk-r2")}


async def test_an_adapter_that_the_server_lists_is_not_loaded_again(models: ModelServer, vllm: VllmDouble) -> None:
    vllm.loaded["desk-r1"] = f"/mnt/{folder('desk-r1')}"
    assert await say(models, "desk-r1") == "desk-r1 says Hello."
    assert vllm.log == []


async def test_the_base_model_loads_nothing(models: ModelServer, vllm: VllmDouble) -> None:
    assert await say(models, BASE) == "Base."
    assert vllm.log == []


async def test_many_dialogues_that_begin_at_once_load_their_adapter_once(models: ModelServer, vllm: VllmDouble) -> None:
    assert set(await asyncio.gather(*(say(models, "desk-r1") for _ in range(20)))) == {"desk-r1 says Hello."}
    assert vllm.log == [("load", "desk-r1")]


async def test_of_two_processes_that_load_at_once_both_go_on(models: ModelServer, vllm: VllmDouble) -> None:
    async with ModelServer(vllm.endpoint(patience_seconds=0)) as other:
        other.expect("desk-r1", fingerprint("desk-r1"), folder("desk-r1"))
        said = await asyncio.gather(say(models, "desk-r1"), say(other, "desk-r1"))
    assert said == ["desk-r1 says Hello."] * 2
    assert vllm.log == [("load", "desk-r1")]


async def test_an_adapter_that_nobody_asks_for_is_unloaded_and_one_in_use_is_not(
    models: ModelServer, vllm: VllmDouble, clock: Clock
) -> None:
    await say(models, "desk-r1")
    for _ in range(int(IDLE_SECONDS // TRUSTED_SECONDS) + 1):
        await say(models, "desk-r2")
        clock.now += TRUSTED_SECONDS
    await say(models, "desk-r2")
    assert vllm.log == [("load", "desk-r1"), ("load", "desk-r2"), ("unload", "desk-r1")]
    assert await say(models, "desk-r1") == "desk-r1 says Hello."


async def test_what_somebody_else_loaded_is_not_unloaded(models: ModelServer, vllm: VllmDouble, clock: Clock) -> None:
    vllm.loaded["desk-r1"] = f"/mnt/{folder('desk-r1')}"
    await say(models, "desk-r1")
    clock.now += IDLE_SECONDS + 1
    await say(models, "desk-r2")
    assert vllm.log == [("load", "desk-r2")]


async def test_an_adapter_that_is_gone_meanwhile_is_loaded_and_shown_again(
    models: ModelServer, vllm: VllmDouble
) -> None:
    await say(models, "desk-r1")
    vllm.loaded.clear()
    vllm.asked.clear()
    assert await say(models, "desk-r1") == "desk-r1 says Hello."
    assert vllm.log == [("load", "desk-r1")] * 2
    assert len(vllm.asked) == 1 + 3 + 1  # refused, probes, answered


async def test_an_unload_that_fails_holds_up_nobody(models: ModelServer, vllm: VllmDouble, clock: Clock) -> None:
    await say(models, "desk-r1")
    vllm.loaded.clear()
    clock.now += IDLE_SECONDS + 1
    assert await say(models, "desk-r2") == "desk-r2 says Hello."


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "No adapter found for /mnt/adapters/desk-r1/adapter"),
        ({"/mnt/adapters/desk-r1/adapter": ""}, "LoRA rank 64"),
    ],
)
async def test_an_adapter_that_can_not_be_loaded_waits_and_says_why(
    models: ModelServer, vllm: VllmDouble, clock: Clock, found: dict[str, str], reason: str
) -> None:
    vllm.weights = found
    with pytest.raises(
        WrongAdapter, match=f"desk-r1 could not be loaded from /mnt/adapters/desk-r1/adapter: .*{reason}"
    ):
        await say(models, "desk-r1")
    vllm.weights = weights("desk-r1")
    clock.now += WRONG_SECONDS
    assert await say(models, "desk-r1") == "desk-r1 says Hello."


async def test_a_server_that_takes_no_orders_is_told_of_with_what_to_do() -> None:
    async with VllmDouble({}, allows_updating=False) as vllm, ModelServer(vllm.endpoint(patience_seconds=0)) as models:
        models.expect("desk-r1", fingerprint("desk-r1"), folder("desk-r1"))
        (found,) = await check_adapter_of("adapter", models, "desk-r1")
    assert "/v1/load_lora_adapter answered 404" in found.problem
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in found.problem
    assert "docs/models/adapters.md" in found.problem


async def test_without_a_place_for_the_files_nothing_is_loaded_and_what_is_not_served_waits(vllm: VllmDouble) -> None:
    async with ModelServer(vllm.endpoint(patience_seconds=0, artifacts="")) as models:
        models.expect("desk-r1", fingerprint("desk-r1"), folder("desk-r1"))
        with pytest.raises(WrongAdapter, match=r"desk-r1 is not served: .*does not exist"):
            await say(models, "desk-r1")
    assert vllm.log == []


async def test_other_weights_under_an_adapters_name_are_not_used_and_not_replaced(
    models: ModelServer, vllm: VllmDouble
) -> None:
    vllm.loaded["desk-r1"] = f"/mnt/{folder('desk-r2')}"
    with pytest.raises(WrongAdapter, match=r"It says 'desk-r2 says one\.' where the adapter says 'desk-r1"):
        await say(models, "desk-r1")
    assert vllm.log == []


async def test_where_one_server_is_wrong_the_others_go_on_and_it_keeps_what_else_it_does(clock: Clock) -> None:
    async with VllmDouble({}) as wrong, VllmDouble(weights("desk-r1")) as right:
        url = f"{wrong.url},{right.url}"
        async with ModelServer(right.endpoint(patience_seconds=0, url=url), clock=clock) as models:
            models.expect("desk-r1", fingerprint("desk-r1"), folder("desk-r1"))
            (lame, _) = models.replicas
            limit = lame.gate.limit
            dialogues = [str(number) for number in range(64)]  # of which about half prefer each of the two
            assert {await say(models, "desk-r1", dialogue) for dialogue in dialogues} == {"desk-r1 says Hello."}
            assert told_wrong(wrong, "desk-r1") == 1
            assert wrong.asked == []
            assert (lame.gate.limit, lame.is_there) == (limit, True)
            assert {await say(models, BASE, dialogue) for dialogue in dialogues} == {"Base."}
            assert set(wrong.asked) == {BASE}


async def test_a_release_is_shown_by_every_server_even_if_the_first_is_wrong() -> None:
    async with VllmDouble({}) as wrong, VllmDouble(weights("desk-r1")) as right:
        async with ModelServer(right.endpoint(patience_seconds=0, url=f"{wrong.url},{right.url}")) as models:
            models.expect("desk-r1", fingerprint("desk-r1"), folder("desk-r1"))
            with pytest.raises(WrongAdapter, match=wrong.url):
                await models.show("desk-r1")
        assert right.log == [("load", "desk-r1")]


async def test_a_server_that_turns_wrong_is_stopped_within_the_time_that_it_is_trusted(
    models: ModelServer, vllm: VllmDouble, clock: Clock
) -> None:
    await say(models, "desk-r1")
    vllm.weights[f"/mnt/{folder('desk-r1')}"] = "Base."
    clock.now += TRUSTED_SECONDS
    with pytest.raises(WrongAdapter, match="3 as the base model does"):
        await say(models, "desk-r1")


async def test_a_server_that_is_gone_is_unavailable_not_wrong(vllm: VllmDouble) -> None:
    async with ModelServer(vllm.endpoint(patience_seconds=0, url="http://127.0.0.1:9")) as models:
        models.expect("desk-r1", fingerprint("desk-r1"), folder("desk-r1"))
        with pytest.raises(ModelUnavailable) as raised:
            await say(models, "desk-r1")
    assert not isinstance(raised.value, WrongAdapter)
