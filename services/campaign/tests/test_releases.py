"""Which adapter an agent answers with: releases, rollbacks down the chain, promotions."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.runtime.errors import NotFound, NotPossible
from duologue_campaign.tables import AdapterRow
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
