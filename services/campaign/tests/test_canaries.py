"""A canary: a share of an agent's training dialogues goes to an adapter that does not answer yet, and is compared."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.problems import InvalidInput
from duologue.runtime.errors import NotPossible
from duologue_campaign.canaries import goes_to_canary
from services.campaign.tests.test_releases import evaluated, promote, roll_back, states, trained
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane
from tests.support.desk import played


async def begin(plane: ControlPlane, name: str, share: float = 0.5) -> pb.Adapter:
    return (await plane.rpc.PromoteAdapter(pb.PromoteAdapterRequest(adapter=name, canary=share), None)).adapter


async def shown(plane: ControlPlane, name: str) -> pb.Canary:
    return (await plane.rpc.GetAdapter(pb.GetAdapterRequest(adapter=name), None)).adapter.canary


async def told(plane: ControlPlane) -> list[tuple[str, str, str, float]]:
    events = await plane.asked(events_pb2.AdapterReleased)
    return [(event.adapter.id, event.cause, event.canary.id, event.canary_share) for event in events]


async def training_requests(plane: ControlPlane, campaign_id: str) -> list[events_pb2.DialogueRequested]:
    asked = await plane.asked(events_pb2.DialogueRequested, campaign_id)
    return [request for request in asked if request.split == dialogue_pb2.SPLIT_TRAINING]


def better_with(name: str) -> Any:
    """Dialogues with this adapter do better."""

    def measure(request: events_pb2.DialogueRequested) -> dict[str, Any]:
        better = 0.5 if request.adapter.id == name else 0.0
        return {"subgoals_relative": request.index % 4 / 8 + better, "success": True}

    return measure


@given(st.uuids(), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_what_goes_to_a_canary_stays_there_when_its_share_grows(name: Any, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert goes_to_canary(str(name), large) >= goes_to_canary(str(name), small)
    assert goes_to_canary(str(name), small) == goes_to_canary(str(name), small)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_canary_gets_about_its_share(share: float) -> None:
    found = sum(goes_to_canary(f"dialogue {number}", share) for number in range(10_000))
    assert found / 10_000 == pytest.approx(share, abs=0.02)


async def test_a_running_campaign_gives_the_canary_its_share_and_asks_again_alike(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await begin(plane, "a", 0.3)
    campaign_id = await plane.create(dialogues=60, concurrency=60)
    asked = {request.dialogue_id: request.adapter.id for request in await training_requests(plane, campaign_id)}
    assert asked == {name: "a" if goes_to_canary(name, 0.3) else "" for name in asked}
    assert set(asked.values()) == {"", "a"}
    driver = plane.driver(reissue_seconds=600)
    plane.clock.now += 601
    await driver.look()
    again = (await training_requests(plane, campaign_id))[60:]
    assert {request.dialogue_id: request.adapter.id for request in again} == asked


async def test_a_canary_that_begins_in_the_middle_has_its_share_of_what_is_still_to_come(plane: ControlPlane) -> None:
    await trained(plane, "a")
    world = World(plane, await plane.create(dialogues=60, concurrency=20))
    await begin(plane, "a", 0.9)
    await world.run(lambda campaign: campaign.history[0].phase != pb.ROUND_PHASE_GENERATING)
    adapters = [request.adapter.id for request in await training_requests(plane, world.campaign_id)]
    assert set(adapters[:20]) == {""}
    assert Counter(adapters[20:])["a"] > 20


async def test_evaluation_dialogues_are_those_of_the_adapters_that_are_compared(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await begin(plane, "a", 0.9)
    world, adapter_id = await evaluated(plane)
    await world.run()
    asked = await plane.asked(events_pb2.DialogueRequested, world.campaign_id)
    arms = {request.adapter.id for request in asked if request.split == dialogue_pb2.SPLIT_EVALUATION}
    assert arms == {"", adapter_id}


async def test_both_sides_are_compared_by_the_gates_metrics_and_the_gate_says_what_it_would_do(
    plane: ControlPlane,
) -> None:
    await trained(plane, "a")
    await begin(plane, "a", 0.5)
    campaign_id = await plane.create(dialogues=80, concurrency=80)
    await World(plane, campaign_id, measure=better_with("a")).run(
        lambda campaign: campaign.history[0].phase != pb.ROUND_PHASE_GENERATING
    )
    canary = await shown(plane, "a")
    arms = Counter(request.adapter.id for request in await training_requests(plane, campaign_id))
    main = next(item for item in canary.evaluation.comparisons if item.metric == "subgoals_relative")
    assert (main.current_dialogues, main.candidate_dialogues, main.pairs) == (arms[""], arms["a"], 0)
    assert main.candidate.low < main.candidate.value < main.candidate.high
    assert main.gain.low > 0.3
    assert canary.evaluation.released
    assert canary.evaluation.reason.startswith("subgoals_relative gains +0.")
    assert canary.evaluation.reason.endswith(f"over {arms['']} and {arms['a']} dialogues")
    assert (canary.share, canary.current_adapter_id, canary.ended_at) == (0.5, "", "")


async def test_only_what_was_scored_while_it_lasted_counts(plane: ControlPlane) -> None:
    await trained(plane, "a")
    campaign_id = await plane.create(dialogues=40, concurrency=10)
    first, *others = await training_requests(plane, campaign_id)
    await plane.events.scored(played(first))
    await begin(plane, "a", 0.9)
    assert (await shown(plane, "a")).evaluation.reason == (
        "subgoals_relative was measured on no dialogues of both adapters"
    )
    for request in others:
        await plane.events.scored(played(request))
    late, *during = (await training_requests(plane, campaign_id))[10:]
    for request in during:
        await plane.events.scored(played(request))
    await roll_back(plane)
    before = await shown(plane, "a")
    plane.clock.now += 1
    await plane.events.scored(played(late))
    assert await shown(plane, "a") == before
    counts = Counter(request.adapter.id for request in during)
    main = next(item for item in before.evaluation.comparisons if item.metric == "subgoals_relative")
    assert (main.current_dialogues, main.candidate_dialogues) == (9 + counts[""], counts["a"])
    assert before.evaluation.reason.endswith("dialogues, a release needs 20 of each adapter")


async def test_other_agents_know_nothing_of_it(plane: ControlPlane) -> None:
    await trained(plane, "other", agent="shop")
    await begin(plane, "other", 0.9)
    campaign_id = await plane.create(dialogues=20, concurrency=20)
    assert {request.adapter.id for request in await training_requests(plane, campaign_id)} == {""}


async def test_its_beginning_and_end_are_told_with_what_answers(plane: ControlPlane) -> None:
    await trained(plane, "a", "b")
    await promote(plane, "a")
    await begin(plane, "b", 0.1)
    await begin(plane, "b", 0.2)
    await promote(plane, "b")
    assert await told(plane) == [
        ("a", "promote", "", 0.0),
        ("a", "canary", "b", 0.1),
        ("a", "canary", "b", 0.2),
        ("b", "promote", "", 0.0),
    ]
    event = (await plane.asked(events_pb2.AdapterReleased))[1]
    assert event.canary.served_model == "merged/b"
    canary = await shown(plane, "b")
    assert (canary.outcome, canary.current_adapter_id, bool(canary.ended_at)) == ("promote", "a", True)


async def test_a_rollback_ends_the_canary_first_and_leaves_what_answers(plane: ControlPlane) -> None:
    await trained(plane, "a", "b")
    await promote(plane, "a")
    await begin(plane, "b")
    assert await states(plane) == {"a": "released", "b": "candidate"}
    assert await roll_back(plane) == "a"
    assert await states(plane) == {"a": "released", "b": "candidate"}
    assert (await shown(plane, "b")).outcome == "rollback"
    assert await roll_back(plane) == ""
    assert [event[:3] for event in await told(plane)][-2:] == [("a", "rollback", ""), ("", "rollback", "")]


async def test_a_release_by_the_gate_overtakes_a_canary(plane: ControlPlane) -> None:
    await trained(plane, "a")
    world, adapter_id = await evaluated(plane)
    await begin(plane, "a")
    await world.run()
    assert (await states(plane))[adapter_id] == "released"
    assert (await shown(plane, "a")).outcome == "overtaken"
    assert (await told(plane))[-1] == (adapter_id, "gate", "", 0.0)


async def test_an_adapter_may_be_a_canary_again(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await begin(plane, "a", 0.2)
    await roll_back(plane)
    await begin(plane, "a", 0.4)
    canary = await shown(plane, "a")
    assert (canary.share, canary.outcome) == (0.4, "")


async def test_the_same_share_again_tells_nobody(plane: ControlPlane) -> None:
    await trained(plane, "a")
    for _ in range(2):
        assert (await begin(plane, "a", 0.2)).canary.share == 0.2
    assert len(await told(plane)) == 1


async def test_an_agent_has_one_canary_at_a_time(plane: ControlPlane) -> None:
    await trained(plane, "a", "b")
    await begin(plane, "a")
    with pytest.raises(NotPossible, match="a is the canary of desk: first `duologue adapter promote a`"):
        await begin(plane, "b")
    assert len(await told(plane)) == 1


async def test_what_answers_already_is_no_canary(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await promote(plane, "a")
    with pytest.raises(NotPossible, match="a answers already"):
        await begin(plane, "a")


@pytest.mark.parametrize("state", ["training", "failed"])
async def test_an_adapter_that_can_not_answer_is_no_canary(plane: ControlPlane, state: str) -> None:
    await trained(plane, "a", state=state)
    with pytest.raises(NotPossible, match=f"it is {state}"):
        await begin(plane, "a")


@pytest.mark.parametrize("share", [-0.1, 1.0, 7.0, float("nan"), float("inf")])
async def test_a_share_is_above_0_and_below_1(plane: ControlPlane, share: float) -> None:
    await trained(plane, "a")
    with pytest.raises(InvalidInput, match=r"canary: is (.|\n)*Give a share above 0 and below 1"):
        await begin(plane, "a", share)
    assert await told(plane) == []


async def test_canaries_are_compared_where_one_looks_at_one(plane: ControlPlane) -> None:
    await trained(plane, "a", "b")
    await begin(plane, "a")
    await roll_back(plane)
    await begin(plane, "b")
    adapters = (await plane.rpc.ListAdapters(pb.ListAdaptersRequest(), None)).adapters
    assert {adapter.ref.id: adapter.canary.HasField("evaluation") for adapter in adapters} == {"a": False, "b": False}
    assert (await shown(plane, "a")).HasField("evaluation")
    assert (await shown(plane, "b")).HasField("evaluation")
