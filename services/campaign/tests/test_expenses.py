"""What a campaign's dialogues used is in its books once, by what became of them."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy.orm import Session

from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue_campaign.expenses import expenses_of
from tests.support.campaign_world import World
from tests.support.control_plane import ControlPlane
from tests.support.desk import played

JUDGE = dialogue_pb2.ModelUsage(part="judge", model="judge", prompt_tokens=7, completion_tokens=2, seconds=0.5)


def tokens(campaign: pb.Campaign) -> dict[tuple[str, str, bool], int]:
    """Prompt tokens by decision, part and whether they were wasted."""
    return {
        (expense.decision, expense.usage.part, expense.usage.wasted): expense.usage.prompt_tokens
        for expense in campaign.expenses
    }


async def test_expenses_follow_the_decisions_of_the_filters(plane: ControlPlane) -> None:
    campaign = await World(plane, await plane.create()).run()
    each = {("agent", False): 30, ("client", False): 20, ("client", True): 5, ("manager", False): 15}
    # three of six are kept; the shop's evaluation dialogues have no figures
    assert tokens(campaign) == {
        (decision, *account): 3 * count for decision in ("kept", "dropped") for account, count in each.items()
    }


async def test_what_is_not_decided_yet_is_pending_and_the_judge_is_counted(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=2)
    (request, _) = await plane.asked(events_pb2.DialogueRequested)
    scored = played(request)
    scored.judge_usage.CopyFrom(JUDGE)
    for _ in range(2):  # a second time changes nothing
        await plane.events.scored(scored)
    found = tokens(await plane.campaign(campaign_id))
    assert {decision for decision, _, _ in found} == {"pending"}
    assert found["pending", "judge", False] == 7


async def test_evaluation_dialogues_are_booked_as_such(plane: ControlPlane) -> None:
    world = World(plane, await plane.create())
    await world.run(lambda campaign: campaign.history[-1].phase == pb.ROUND_PHASE_EVALUATING)
    await world.look()
    evaluated = world.pending.pop()
    assert isinstance(evaluated, events_pb2.DialogueScored)
    evaluated.judge_usage.CopyFrom(JUDGE)
    await world.tell(evaluated)
    assert tokens(await plane.campaign(world.campaign_id))["evaluation", "judge", False] == 7


async def test_a_dialogue_of_a_version_that_did_not_tell_is_in_no_books_and_leaves_none_below_zero(
    plane: ControlPlane,
) -> None:
    campaign_id = await plane.create(dialogues=1)
    world = World(plane, campaign_id)
    await world.look()
    (scored,) = world.pending
    assert isinstance(scored, events_pb2.DialogueScored)
    scored.dialogue.ClearField("usage")
    campaign = await world.run()
    assert campaign.history[0].kept == 1
    assert tokens(campaign) == {}
    assert campaign.prompt_tokens == 70


async def test_a_model_with_a_name_that_no_index_takes_is_booked_by_its_beginning(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=1)
    (request,) = await plane.asked(events_pb2.DialogueRequested)
    scored = played(request)
    scored.judge_usage.CopyFrom(JUDGE)
    scored.judge_usage.model = "\u6a21" * 4000
    await plane.events.scored(scored)
    models = {expense.usage.model for expense in (await plane.campaign(campaign_id)).expenses}
    assert "\u6a21" * 512 in models


@pytest.mark.parametrize("order", [1, -1])
async def test_usage_of_several_dialogues_adds_up_whatever_their_order(plane: ControlPlane, order: int) -> None:
    campaign_id = await plane.create(dialogues=4)
    for number, request in enumerate((await plane.asked(events_pb2.DialogueRequested))[::order], start=1):
        scored = played(request)
        scored.judge_usage.CopyFrom(JUDGE)
        scored.judge_usage.told_tokens, scored.judge_usage.cached_tokens = 7, number
        await plane.events.scored(scored)
    (judge,) = [
        expense.usage for expense in (await plane.campaign(campaign_id)).expenses if expense.usage.part == "judge"
    ]
    assert (judge.prompt_tokens, judge.told_tokens, judge.cached_tokens, judge.seconds) == (28, 28, 10, 2.0)


async def test_each_round_has_its_own_part_of_the_books(plane: ControlPlane) -> None:
    world = World(plane, await plane.create(rounds=2))
    campaign = await world.run()

    def prompt_tokens(session: Session, round_: int | None) -> int:
        found = expenses_of(session, world.campaign_id, round_)
        return sum(usage.prompt_tokens for _, _, usage in found)

    first, second, of_all = [await plane.database.run(partial(prompt_tokens, round_=number)) for number in (1, 2, None)]
    assert first == second > 0
    assert of_all == first + second == sum(expense.usage.prompt_tokens for expense in campaign.expenses)
