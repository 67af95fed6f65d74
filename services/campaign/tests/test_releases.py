"""Which adapter an agent answers with: releases, rollbacks down the chain, promotions."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.runtime.errors import NotFound, NotPossible
from duologue_campaign.tables import AdapterRow
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane


async def trained(plane: ControlPlane, *names: str, agent: str = "desk", state: str = "candidate") -> None:
    """Adapters of one campaign that were trained."""
    campaign_id = await plane.create()

    def add(session: Session) -> None:
        for number, name in enumerate(names, 1):
            ref = dialogue_pb2.AdapterRef(id=name, served_model=f"merged/{name}")
            session.add(
                AdapterRow(
                    id=name,
                    campaign_id=campaign_id,
                    agent=agent,
                    round=number,
                    state=state,
                    dataset_ids=[],
                    training=events_pb2.TrainingCompleted(training_id=name, adapter=ref).SerializeToString(),
                    created_at=float(number),
                )
            )

    await plane.database.run(add)


async def promote(plane: ControlPlane, name: str) -> pb.Adapter:
    return (await plane.rpc.PromoteAdapter(pb.PromoteAdapterRequest(adapter=name), None)).adapter


async def roll_back(plane: ControlPlane, agent: str = "desk") -> str:
    """The id of what answers after it."""
    return (await plane.rpc.RollbackAdapter(pb.RollbackAdapterRequest(agent=agent), None)).adapter.ref.id


async def states(plane: ControlPlane) -> dict[str, str]:
    adapters = (await plane.rpc.ListAdapters(pb.ListAdaptersRequest(), None)).adapters
    return {adapter.ref.id: adapter.state for adapter in adapters}


async def told(plane: ControlPlane) -> list[tuple[str, str]]:
    return [(event.adapter.id, event.cause) for event in await plane.asked(events_pb2.AdapterReleased)]


async def test_a_promoted_adapter_answers_and_the_one_before_is_retired(plane: ControlPlane) -> None:
    await trained(plane, "a", "b")
    assert (await promote(plane, "a")).state == "released"
    await promote(plane, "b")
    assert await states(plane) == {"a": "retired", "b": "released"}
    assert await told(plane) == [("a", "promote"), ("b", "promote")]


async def test_what_is_told_of_a_release_is_enough_to_serve_it(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await promote(plane, "a")
    (event,) = await plane.asked(events_pb2.AdapterReleased)
    assert (event.agent, event.adapter.served_model) == ("desk", "merged/a")
    assert datetime.fromisoformat(event.released_at).tzinfo is not None
    assert event.campaign_id


async def test_a_rollback_goes_back_one_release_at_a_time_down_to_the_base_model(plane: ControlPlane) -> None:
    await trained(plane, "a", "b", "c")
    for name in ("a", "b", "c"):
        await promote(plane, name)
    assert await roll_back(plane) == "b"
    assert await states(plane) == {"a": "retired", "b": "released", "c": "retired"}
    assert await roll_back(plane) == "a"
    assert await roll_back(plane) == ""
    assert await states(plane) == dict.fromkeys("abc", "retired")
    assert await told(plane) == [
        ("a", "promote"),
        ("b", "promote"),
        ("c", "promote"),
        ("b", "rollback"),
        ("a", "rollback"),
        ("", "rollback"),
    ]


async def test_with_nothing_released_there_is_nothing_to_roll_back(plane: ControlPlane) -> None:
    await trained(plane, "a")
    for _ in range(2):
        with pytest.raises(NotPossible, match='agent "desk" has no released adapter'):
            await roll_back(plane)
    assert await told(plane) == []


async def test_a_release_after_a_rollback_goes_back_to_what_answered_then(plane: ControlPlane) -> None:
    await trained(plane, "a", "b", "c")
    await promote(plane, "a")
    await promote(plane, "b")
    await roll_back(plane)
    await promote(plane, "c")
    assert await roll_back(plane) == "a"


async def test_an_adapter_that_was_rolled_back_can_be_promoted_again(plane: ControlPlane) -> None:
    await trained(plane, "a", "b")
    await promote(plane, "a")
    await promote(plane, "b")
    await promote(plane, "a")
    assert await states(plane) == {"a": "released", "b": "retired"}
    assert [await roll_back(plane) for _ in range(3)] == ["b", "a", ""]


async def test_promoting_what_answers_already_tells_nobody(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await promote(plane, "a")
    await promote(plane, "a")
    assert await told(plane) == [("a", "promote")]


async def test_a_refused_adapter_may_be_promoted_by_a_person(plane: ControlPlane) -> None:
    await trained(plane, "a", state="refused")
    assert (await promote(plane, "a")).state == "released"


async def evaluated(plane: ControlPlane) -> tuple[World, str]:
    """A campaign that evaluates its adapter, and the adapter's id."""
    world = World(plane, await plane.create())
    campaign = await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_EVALUATING)
    return world, campaign.history[-1].adapter_id


async def test_what_was_compared_with_another_than_answers_now_is_refused_and_says_so(plane: ControlPlane) -> None:
    await trained(plane, "a")
    world, adapter_id = await evaluated(plane)
    await promote(plane, "a")
    campaign = await world.run()
    evaluation = campaign.history[0].evaluation
    assert campaign.state == pb.CAMPAIGN_STATE_COMPLETED
    assert not evaluation.released
    assert evaluation.reason.startswith(
        "a answers now, the pairs compare with the base model: subgoals_relative gains "
    )
    assert f"`duologue adapter promote {adapter_id}`" in evaluation.reason
    assert await states(plane) == {"a": "released", adapter_id: "refused"}
    assert await told(plane) == [("a", "promote")]
    assert (await promote(plane, adapter_id)).state == "released"


async def test_of_two_campaigns_of_one_agent_only_the_first_to_win_releases(plane: ControlPlane) -> None:
    first, first_id = await evaluated(plane)
    second, second_id = await evaluated(plane)
    await second.run()
    campaign = await first.run()
    assert campaign.history[0].outcome.startswith(f"{second_id} answers now, ")
    assert await states(plane) == {first_id: "refused", second_id: "released"}
    assert await told(plane) == [(second_id, "gate")]


async def test_an_adapter_that_is_promoted_while_it_is_evaluated_stays_released(plane: ControlPlane) -> None:
    world, adapter_id = await evaluated(plane)
    world.measure = lambda request: {"subgoals_relative": 0.5}
    await promote(plane, adapter_id)
    campaign = await world.run()
    assert campaign.history[0].evaluation.released
    assert campaign.history[0].outcome.startswith("promoted by hand while it was evaluated; the gate saw: the gain of ")
    assert await states(plane) == {adapter_id: "released"}
    assert await told(plane) == [(adapter_id, "promote")]


async def test_a_release_that_was_rolled_back_meanwhile_leaves_the_comparison_as_it_was(plane: ControlPlane) -> None:
    await trained(plane, "a")
    world, adapter_id = await evaluated(plane)
    await promote(plane, "a")
    await roll_back(plane)
    campaign = await world.run()
    assert campaign.history[0].evaluation.released
    assert await states(plane) == {"a": "retired", adapter_id: "released"}


@pytest.mark.parametrize("state", ["training", "failed"])
async def test_an_adapter_that_can_not_answer_is_not_promoted(plane: ControlPlane, state: str) -> None:
    await trained(plane, "a", state=state)
    with pytest.raises(NotPossible, match=f"it is {state}"):
        await promote(plane, "a")
    assert await told(plane) == []


async def test_an_adapter_that_does_not_exist_is_not_promoted(plane: ControlPlane) -> None:
    with pytest.raises(NotFound, match='no adapter "nothing"'):
        await promote(plane, "nothing")


async def test_agents_do_not_share_releases(plane: ControlPlane) -> None:
    await trained(plane, "a")
    await trained(plane, "other", agent="shop")
    await promote(plane, "a")
    await promote(plane, "other")
    assert await roll_back(plane, "shop") == ""
    assert await states(plane) == {"a": "released", "other": "retired"}
