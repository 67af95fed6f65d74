"""A round's dataset: what is in it, when it is sealed, and that sealing again changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import structlog

from duologue.bus import Poison, RetryPolicy
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.dialogue import Split
from duologue.runtime.failures import classify_errors
from duologue.store import StoredArtifact
from duologue_filtering.rows import SCHEMA
from services.filtering.tests.conftest import House
from tests.support.desk import CAMPAIGN_ID, DESK, dialogue, scored
from tests.support.eventually import eventually
from tests.support.metrics import told

ENDED = {"kind": "ended"}


class PowerCut(BaseException):
    """Nothing catches it."""


async def collect(house: House, count: int, first: int = 0) -> None:
    """Candidates a0, a1, ...; every third did not end."""
    for number in range(first, first + count):
        await house.collect.handle(scored(dialogue(f"a{number}", index=number), ended=number % 3 != 2))


async def test_a_dataset_is_sealed_once_all_candidates_are_there(house: House) -> None:
    async with house.sealing():
        await house.order(4, [ENDED])
        await collect(house, 3)
        assert await house.waiting() == []
        assert not house.artifacts.exists("datasets/desk-r1/data.parquet")
        await collect(house, 1, first=3)
        sealed = await house.sealed()
    assert (sealed.dataset_id, sealed.campaign_id, sealed.round) == ("desk-r1", CAMPAIGN_ID, 1)
    assert (sealed.candidates, sealed.kept) == (4, 3)


async def test_candidates_that_were_there_before_the_order_count(house: House) -> None:
    await collect(house, 3)
    async with house.sealing():
        await house.order(3)
        assert (await house.sealed()).kept == 3


async def test_every_candidate_is_told_of_with_its_reason(house: House) -> None:
    await collect(house, 4)
    async with house.sealing():
        await house.order(4, [ENDED])
        await house.sealed()
    decisions = await house.decisions()
    assert {name: event.kept for name, event in decisions.items()} == {"a0": True, "a1": True, "a2": False, "a3": True}
    assert (decisions["a2"].reason, decisions["a2"].dropped_by) == ("did not reach an ending", "ended")
    assert (decisions["a2"].campaign_id, decisions["a2"].round) == (CAMPAIGN_ID, 1)
    assert decisions["a0"].reason == ""


async def test_decisions_are_counted_by_the_kind_of_filter(house: House) -> None:
    def counted() -> tuple[float, ...]:
        kinds = (("kept", ""), ("dropped", "ended"), ("dropped", "late"))
        return tuple(told("duologue_dialogues_filtered_total", decision=name, filter=kind) for name, kind in kinds)

    before = counted()
    await collect(house, 4)
    async with house.sealing():
        await house.order(4, [ENDED])
        await house.sealed()
        await collect(house, 1, first=4)
        await house.decided(5)
    assert tuple(now - then for now, then in zip(counted(), before, strict=True)) == (3, 1, 1)


async def test_a_row_holds_the_dialogue_for_chat_and_for_training(house: House) -> None:
    await collect(house, 1)
    async with house.sealing():
        await house.order(1)
        sealed = await house.sealed()
    (row,) = house.rows(sealed.data)
    assert row["dialogue_id"] == "a0"
    assert (row["workflow_id"], row["workflow_version"]) == (DESK.id, DESK.version)
    assert (row["persona_id"], row["intention_id"], row["adapter_id"]) == ("teacher", "late", "")
    assert json.loads(row["scores"])["subgoals_relative"] == 0.75
    messages = row["messages"]
    assert [message["role"] for message in messages] == [
        "system",
        "assistant",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    (call,) = json.loads(messages[3]["tool_calls"])
    assert call["function"]["name"] == "look_up"
    assert json.loads(call["function"]["arguments"]) == {"code": "PK-4471"}
    assert messages[3]["content"] is None
    assert messages[4]["tool_call_id"] == call["id"]
    assert json.loads(messages[4]["content"]) == {"outcome": "found", "place": "the depot at North Gate"}


async def test_there_is_an_example_for_every_agent_turn_with_what_stood_before_it(house: House) -> None:
    await collect(house, 1)
    async with house.sealing():
        await house.order(1)
        (row,) = house.rows((await house.sealed()).data)
    assert [(example["node"], example["completion"][:11]) for example in row["examples"]] == [
        ("greet", "Hello, this"),
        ("tell", "Your parcel"),
        ("bye", "Then have a"),
    ]
    prompt = row["examples"][1]["prompt"]
    assert [message["role"] for message in prompt] == ["system", "assistant", "user"]
    assert prompt[2]["content"] == (
        "It is PK-4471.\n[Say now: Your parcel PK-4471 lies at the depot at North Gate. Is there another parcel?]"
    )


async def test_the_manifest_leads_back_to_all_that_the_dataset_was_made_of(house: House) -> None:
    await collect(house, 4)
    async with house.sealing():
        await house.order(4, [ENDED])
        sealed = await house.sealed()
    manifest = json.loads(house.artifacts.read(sealed.manifest.uri, sealed.manifest.sha256))
    assert manifest == {
        "dataset_id": "desk-r1",
        "campaign_id": CAMPAIGN_ID,
        "round": 1,
        "filters": [ENDED],
        "seed": 3,
        "candidates": 4,
        "kept": 3,
        "dropped_by": {"ended": 1},
        "data_sha256": sealed.data.sha256,
        "schema_sha256": hashlib.sha256(str(SCHEMA).encode()).hexdigest(),
        "dialogue_ids": ["a0", "a1", "a3"],
    }


async def test_a_dataset_of_nothing_is_sealed_too(house: House) -> None:
    await collect(house, 2)
    async with house.sealing():
        await house.order(2, [{"kind": "at_least", "metric": "words", "value": 1000}])
        sealed = await house.sealed()
    assert (sealed.candidates, sealed.kept) == (2, 0)
    assert house.rows(sealed.data) == []
    assert pq.read_schema(house.artifacts.local_path(sealed.data.uri)).equals(SCHEMA)


async def test_more_dialogues_than_a_row_group_holds_are_all_written(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue_filtering.sealing._ROW_GROUP", 2)
    await collect(house, 5)
    async with house.sealing():
        await house.order(5)
        sealed = await house.sealed()
    assert [row["dialogue_id"] for row in house.rows(sealed.data)] == ["a0", "a1", "a2", "a3", "a4"]


async def test_sealing_again_after_a_crash_gives_the_same_bytes_and_tells_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await collect(house, 3)
    written: list[tuple[bytes, bytes]] = []

    def crash(*_: Any) -> None:
        folder = "datasets/desk-r1"
        written.append(
            (house.artifacts.read(f"{folder}/data.parquet"), house.artifacts.read(f"{folder}/manifest.json"))
        )
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(house.outbox, "add", crash)  # the artifacts are written, the transaction is not
        async with house.sealing() as sealing:
            await house.order(3)
            with pytest.raises(PowerCut):
                await sealing
    assert await house.waiting() == []
    async with house.sealing():
        sealed = await house.sealed()
    assert written == [
        (house.artifacts.read(sealed.data.uri), house.artifacts.read(sealed.manifest.uri)),
    ]
    assert len(await house.decisions()) == 3


async def test_what_comes_between_a_crash_and_the_next_attempt_is_late(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise PowerCut

    await collect(house, 3)
    with monkeypatch.context() as patch:
        patch.setattr(house.artifacts, "write_file", crash)
        async with house.sealing() as sealing:
            await house.order(3)
            with pytest.raises(PowerCut):
                await sealing
    await collect(house, 1, first=3)
    async with house.sealing():
        sealed = await house.sealed()
        decisions = await house.decided(4)
    assert (sealed.candidates, sealed.kept) == (3, 3)
    assert [row["dialogue_id"] for row in house.rows(sealed.data)] == ["a0", "a1", "a2"]
    assert decisions["a3"].dropped_by == "late"


async def test_a_dialogue_that_comes_after_sealing_is_told_of_as_late_once_and_not_counted(house: House) -> None:
    async with house.sealing():
        await house.order(2)
        await collect(house, 2)
        sealed = await house.sealed()
        await collect(house, 2, first=2)
        await house.decided(4)
        await collect(house, 4)
        await house.order(1, dataset_id="desk-r2", round=2)
        await house.collect.handle(scored(dialogue("next", round=2)))
        assert (await house.sealed()).dataset_id == "desk-r2"  # by then all is told
    decisions = await house.decisions()
    assert sealed.candidates == 2
    for name in ("a2", "a3"):
        late = decisions.pop(name)
        assert (late.kept, late.dropped_by) == (False, "late")
        assert late.reason == "came after its round was sealed"
        assert (late.campaign_id, late.round) == (CAMPAIGN_ID, 1)
    assert all(event.kept for event in decisions.values())


async def test_a_dataset_that_can_not_be_sealed_holds_up_no_other_and_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue_filtering.sealing._RETRY", RetryPolicy(first=0.01, longest=0.01))
    write = house.artifacts.write

    def full(uri: str, data: bytes) -> StoredArtifact:
        if uri.startswith("datasets/broken/"):
            raise OSError("no space left on device")
        return write(uri, data)

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
        patch.setattr(house.artifacts, "write", full)
        async with house.sealing() as sealing:
            await house.order(0, dataset_id="broken")
            await house.order(0, [{"kind": "no such"}], dataset_id="wrong", round=3)
            await house.order(1, dataset_id="whole", round=2)
            await house.collect.handle(scored(dialogue("next", round=2)))
            assert (await house.sealed()).dataset_id == "whole"

            async def both_failed() -> bool:
                failed = {(line["dataset"], line["exc_info"]) for line in logs if line["event"] == "sealing failed"}
                return failed >= {("broken", True), ("wrong", True)}

            await eventually(both_failed, "both are said to have failed")
            assert not sealing.done()
    async with house.sealing():
        assert (await house.sealed()).dataset_id == "broken"


async def test_a_dataset_that_can_not_be_sealed_is_not_tried_at_every_candidate(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue_filtering.sealing._RETRY", RetryPolicy(first=3600, longest=3600))
    with structlog.testing.capture_logs() as logs:
        async with house.sealing():
            await house.order(0, [{"kind": "no such"}], dataset_id="wrong", round=3)
            for number in range(3):
                await house.order(1, dataset_id=f"whole{number}", round=4 + number)
                await house.collect.handle(scored(dialogue(f"next{number}", round=4 + number)))
                await house.sealed()
    assert len([line for line in logs if line["event"] == "sealing failed"]) == 1


async def test_while_a_dataset_is_stored_candidates_are_still_collected(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, write, write_file = asyncio.get_running_loop(), house.artifacts.write, house.artifacts.write_file

    def collect_another(name: str) -> None:
        collecting = house.collect.handle(scored(dialogue(name, round=2)))
        asyncio.run_coroutine_threadsafe(collecting, loop).result(timeout=20)

    def slow(uri: str, data: bytes) -> StoredArtifact:
        collect_another("while the manifest is written")
        return write(uri, data)

    def slow_file(uri: str, source: Path) -> StoredArtifact:
        collect_another("while the data is written")
        return write_file(uri, source)

    monkeypatch.setattr(house.artifacts, "write", slow)
    monkeypatch.setattr(house.artifacts, "write_file", slow_file)
    await collect(house, 1)
    async with house.sealing():
        await house.order(1)
        await house.sealed()
    assert len(await house.candidates()) == 3


async def test_payloads_are_let_go_once_they_are_sealed(house: House) -> None:
    await collect(house, 2)
    await house.collect.handle(scored(dialogue("other", round=2)))
    assert all(row.payload for row in await house.candidates())
    async with house.sealing():
        await house.order(2)
        await house.sealed()
    assert {row.dialogue_id: row.payload is not None for row in await house.candidates()} == {
        "a0": False,
        "a1": False,
        "other": True,
    }


async def test_rounds_and_campaigns_do_not_mix(house: House) -> None:
    await collect(house, 2)
    await house.collect.handle(scored(dialogue("next", round=2)))
    await house.collect.handle(scored(dialogue("strange", campaign_id="11111111-6ee1-4c53-9f0e-3a4f1f3b0c1d")))
    async with house.sealing():
        await house.order(2)
        sealed = await house.sealed()
    assert [row["dialogue_id"] for row in house.rows(sealed.data)] == ["a0", "a1"]


async def test_a_dialogue_that_comes_twice_is_one_candidate_the_first_one(house: House) -> None:
    await house.collect.handle(scored(dialogue("a0"), words=10))
    await house.collect.handle(scored(dialogue("a0"), words=99))
    (row,) = await house.candidates()
    assert row.scores["words"] == 10


async def test_a_dialogue_that_comes_again_after_sealing_changes_nothing(house: House) -> None:
    await collect(house, 2)
    async with house.sealing():
        await house.order(2)
        await house.sealed()
        await collect(house, 2)
        await house.order(1, dataset_id="desk-r2", round=2)
        await house.collect.handle(scored(dialogue("next", round=2)))
        assert (await house.sealed()).dataset_id == "desk-r2"
    assert len(await house.decisions()) == 3


async def test_evaluation_dialogues_are_no_candidates(house: House) -> None:
    assert await house.collect.handle(scored(dialogue("e0", split=Split.EVALUATION))) == []
    assert await house.candidates() == []


def broken(change: str) -> events_pb2.DialogueScored:
    event = scored(dialogue("a0"))
    if change == "role":
        event.dialogue.turns[0].role = dialogue_pb2.ROLE_UNSPECIFIED
    else:
        event.dialogue.end_reason = dialogue_pb2.END_REASON_UNSPECIFIED
    return event


@pytest.mark.parametrize("change", ["role", "end reason"])
async def test_a_dialogue_that_could_never_be_written_is_no_candidate_but_a_dead_letter(
    house: House, change: str
) -> None:
    with pytest.raises(Poison, match=f"unknown {change} 0"), classify_errors():
        await house.collect.handle(broken(change))
    assert await house.candidates() == []


async def test_datasets_that_wait_do_not_hold_up_others(house: House) -> None:
    async with house.sealing():
        await house.order(9, dataset_id="far")
        await house.order(1, dataset_id="near", round=2)
        await house.collect.handle(scored(dialogue("next", round=2)))
        assert (await house.sealed()).dataset_id == "near"
    assert not house.artifacts.exists("datasets/far/data.parquet")
