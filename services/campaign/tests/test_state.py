"""A campaign from its first request to its end."""

from __future__ import annotations

import pytest

from duologue.bus import Poison
from duologue.contracts.v1 import campaign_pb2 as pb
from duologue.contracts.v1 import dialogue_pb2, events_pb2
from tests.support.campaign_world import World, without_times
from tests.support.control_plane import ControlPlane
from tests.support.desk import played


def phase(campaign: pb.Campaign) -> str:
    return pb.RoundPhase.Name(campaign.history[-1].phase).removeprefix("ROUND_PHASE_").lower()


def state(campaign: pb.Campaign) -> str:
    return pb.CampaignState.Name(campaign.state).removeprefix("CAMPAIGN_STATE_").lower()


async def test_a_campaign_goes_through_all_phases_to_a_release(plane: ControlPlane) -> None:
    world = World(plane, await plane.create())
    seen: list[str] = []

    def note(campaign: pb.Campaign) -> bool:
        if not seen or seen[-1] != phase(campaign):
            seen.append(phase(campaign))
        return False

    campaign = await world.run(note)
    assert seen == ["generating", "sealing", "training", "evaluating", "done"]
    assert (state(campaign), campaign.reason) == ("completed", "")
    assert campaign.finished_at
    (round_,) = campaign.history
    assert (round_.candidates, round_.kept, round_.dropped, dict(round_.dropped_by)) == (6, 3, 3, {"at_most": 3})
    assert round_.evaluation.released
    assert round_.outcome == round_.evaluation.reason
    assert {item.pairs for item in round_.evaluation.comparisons} == {20}
    assert round_.means["words"] == (0 + 1 + 2 + 3 + 4 + 5) / 6


async def test_the_adapter_that_wins_is_released_and_told_of(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    await World(plane, campaign_id).run()
    (released,) = await plane.asked(events_pb2.AdapterReleased)
    adapter_id = f"desk-r1-{campaign_id[:8]}"
    assert (released.agent, released.adapter.id, released.cause) == ("desk", adapter_id, "gate")
    assert released.adapter.served_model == f"merged/{adapter_id}"
    adapter = (await plane.rpc.GetAdapter(pb.GetAdapterRequest(adapter=adapter_id), None)).adapter
    assert adapter.state == "released"


async def test_an_adapter_that_is_not_better_is_refused_and_the_base_model_stays(plane: ControlPlane) -> None:
    world = World(plane, await plane.create(), measure=lambda request: {"subgoals_relative": request.index // 2 / 8})
    campaign = await world.run()
    assert state(campaign) == "completed"
    assert not campaign.history[0].evaluation.released
    assert await plane.asked(events_pb2.AdapterReleased) == []
    (adapter,) = (await plane.rpc.ListAdapters(pb.ListAdaptersRequest(), None)).adapters
    assert adapter.state == "refused"


async def test_training_is_asked_for_with_the_sealed_data_and_the_spec_s_settings(plane: ControlPlane) -> None:
    campaign_id = await plane.create(training={"min_kept": 1, "rank": 8, "alpha": 16, "epochs": 3})
    await World(plane, campaign_id).run()
    (request,) = await plane.asked(events_pb2.TrainingRequested)
    name = f"desk-r1-{campaign_id[:8]}"
    assert (request.training_id, request.adapter_id, request.round) == (name, name, 1)
    assert [(sealed.dataset_id, sealed.kept) for sealed in request.datasets] == [(name, 3)]
    assert (request.rank, request.alpha, request.epochs, request.seed) == (8, 16, 3, 3)
    assert request.base_model == "models/base"


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"models": {"agent": "the-agent"}}, "the-agent"),
        ({"models": {"agent": "the-agent"}, "training": {"min_kept": 1, "base_model": "weights"}}, "weights"),
    ],
)
async def test_the_base_of_training_is_the_spec_s_before_the_service_s(
    plane: ControlPlane, changes: dict[str, object], base: str
) -> None:
    await World(plane, await plane.create(**changes)).run()
    (request,) = await plane.asked(events_pb2.TrainingRequested)
    assert request.base_model == base


async def test_never_more_than_the_concurrency_is_out(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=11, concurrency=3)
    world = World(plane, campaign_id)
    largest = 0
    while True:
        largest = max(largest, await plane.out(campaign_id))
        await world.look()
        if not world.pending:
            break
        await world.tell(world.pending.pop())
    assert largest == 3
    requests = await plane.asked(events_pb2.DialogueRequested)
    assert len({request.dialogue_id for request in requests}) == len(requests) == 11 + 40


async def test_evaluation_asks_for_pairs_of_the_released_and_the_new_adapter(plane: ControlPlane) -> None:
    campaign_id = await plane.create(rounds=2)
    await World(plane, campaign_id).run()
    requests = await plane.asked(events_pb2.DialogueRequested)
    arms = {
        round_: [
            request.adapter.id
            for request in requests
            if request.round == round_ and request.split == dialogue_pb2.SPLIT_EVALUATION
        ]
        for round_ in (1, 2)
    }
    first, second = (f"desk-r{number}-{campaign_id[:8]}" for number in (1, 2))
    assert arms == {1: ["", first] * 20, 2: [first, second] * 20}
    training = {request.adapter.id for request in requests if request.round == 2 and not request.index % 2}
    assert first in training  # the second round is played by the adapter of the first


async def test_rounds_accumulate_what_was_kept(plane: ControlPlane) -> None:
    await World(plane, await plane.create(rounds=3)).run()
    requests = await plane.asked(events_pb2.TrainingRequested)
    assert [[sealed.round for sealed in request.datasets] for request in requests] == [[1], [1, 2], [1, 2, 3]]


async def test_without_accumulation_a_round_trains_on_its_own_dialogues(plane: ControlPlane) -> None:
    await World(plane, await plane.create(rounds=2, training={"min_kept": 1, "accumulate": False})).run()
    requests = await plane.asked(events_pb2.TrainingRequested)
    assert [[sealed.round for sealed in request.datasets] for request in requests] == [[1], [2]]


async def test_a_round_that_keeps_too_little_trains_nothing_and_says_so(plane: ControlPlane) -> None:
    campaign = await World(plane, await plane.create(rounds=2, training={"min_kept": 5})).run()
    assert state(campaign) == "completed"
    first, second = campaign.history
    assert first.outcome == "3 dialogues kept, training.min_kept asks for 5"
    assert not first.adapter_id
    assert second.adapter_id  # three of each round are six
    (request,) = await plane.asked(events_pb2.TrainingRequested)
    assert request.round == 2


async def test_a_training_that_fails_ends_the_campaign_with_its_reason(plane: ControlPlane) -> None:
    campaign_id = await plane.create(rounds=3)
    campaign = await World(plane, campaign_id, training_error="no such base model").run()
    assert (state(campaign), campaign.reason) == ("failed", "training failed: no such base model")
    assert (phase(campaign), len(campaign.history)) == ("done", 1)
    (adapter,) = (await plane.rpc.ListAdapters(pb.ListAdaptersRequest(), None)).adapters
    assert (adapter.state, adapter.training.error) == ("failed", "no such base model")


async def test_costs_are_added_up_over_all_dialogues(plane: ControlPlane) -> None:
    campaign = await World(plane, await plane.create()).run()
    # of 6 training dialogues; those of the shop have no figures
    assert (campaign.prompt_tokens, campaign.completion_tokens) == (6 * 70, 6 * 15)
    assert campaign.model_seconds == pytest.approx(6 * 0.25)


async def test_what_scoring_used_is_part_of_the_costs(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=1)
    (request,) = await plane.asked(events_pb2.DialogueRequested)
    scored = played(request)
    scored.judge.MergeFrom(events_pb2.Usage(prompt_tokens=7, completion_tokens=2, seconds=0.5))
    await plane.events.scored(scored)
    campaign = await plane.campaign(campaign_id)
    assert (campaign.prompt_tokens, campaign.completion_tokens) == (70 + 7, 15 + 2)
    assert campaign.model_seconds == pytest.approx(0.25 + 0.5)


async def test_a_spent_token_budget_asks_for_no_more_dialogues_and_begins_no_round(plane: ControlPlane) -> None:
    campaign_id = await plane.create(rounds=3, dialogues=50, concurrency=2, budget={"tokens": 300})
    campaign = await World(plane, campaign_id).run()
    assert (state(campaign), len(campaign.history)) == ("completed", 1)
    assert campaign.reason.startswith("budget spent: ")
    assert campaign.reason.endswith(" of 300 tokens")
    # the fourth dialogue of 85 tokens spends it; one more was out
    assert campaign.history[0].candidates == 5


async def test_a_spent_time_budget_ends_the_campaign_after_its_comparison(plane: ControlPlane) -> None:
    campaign_id = await plane.create(rounds=3, budget={"seconds": 100})
    world = World(plane, campaign_id)
    campaign = await world.run(lambda campaign: phase(campaign) == "evaluating")
    plane.clock.now += 99
    assert state(campaign) == "running"
    plane.clock.now += 2
    campaign = await world.run()
    assert (state(campaign), len(campaign.history)) == ("completed", 1)
    assert campaign.reason == "budget spent: 101 of 100 seconds"
    assert campaign.history[0].evaluation.released


async def test_a_budget_that_lasts_allows_all_rounds(plane: ControlPlane) -> None:
    campaign = await World(plane, await plane.create(rounds=2, budget={"seconds": 100})).run()
    assert (state(campaign), len(campaign.history), campaign.reason) == ("completed", 2, "")


@pytest.mark.parametrize(
    ("begun", "outcome"), [("sealing", "budget spent: "), ("training", "not evaluated, budget spent: ")]
)
async def test_what_is_spent_before_a_phase_is_not_begun(plane: ControlPlane, begun: str, outcome: str) -> None:
    campaign_id = await plane.create(rounds=3, budget={"seconds": 100})
    world = World(plane, campaign_id)
    await world.run(lambda campaign: phase(campaign) == begun)
    plane.clock.now += 101
    campaign = await world.run()
    assert (state(campaign), len(campaign.history)) == ("completed", 1)
    assert campaign.history[0].outcome.startswith(outcome)
    assert len(await plane.asked(events_pb2.TrainingRequested)) == (begun == "training")
    requests = await plane.asked(events_pb2.DialogueRequested)
    assert {request.split for request in requests} == {dialogue_pb2.SPLIT_TRAINING}


async def test_a_budget_that_is_spent_before_anything_is_asked_for_completes_the_campaign(plane: ControlPlane) -> None:
    campaign_id = await plane.create(rounds=2, budget={"seconds": 1e-9})
    campaign = await plane.campaign(campaign_id)
    assert (state(campaign), phase(campaign), len(campaign.history)) == ("completed", "done", 1)
    assert campaign.history[0].outcome.startswith("budget spent: ")
    assert await plane.asked(events_pb2.DialogueRequested) == []


async def test_a_scored_dialogue_that_comes_twice_costs_once(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    request = (await plane.asked(events_pb2.DialogueRequested))[0]
    await plane.events.scored(played(request))
    before = await plane.campaign(campaign_id)
    await plane.events.scored(played(request))
    assert without_times(await plane.campaign(campaign_id)) == without_times(before)


async def test_a_round_that_keeps_nothing_new_does_not_train_again_on_the_same(plane: ControlPlane) -> None:
    world = World(plane, await plane.create(rounds=2))
    await world.run(lambda campaign: len(campaign.history) == 2)
    world.keep = lambda index: False
    campaign = await world.run()
    assert (state(campaign), campaign.history[1].outcome) == ("completed", "nothing new was kept")
    (request,) = await plane.asked(events_pb2.TrainingRequested)
    assert request.round == 1


async def test_a_dialogue_that_comes_after_its_round_was_sealed_is_shown_as_dropped(plane: ControlPlane) -> None:
    campaign_id = await plane.create(dialogues=2)
    first, late = await plane.asked(events_pb2.DialogueRequested)
    await plane.events.scored(played(first))
    driver = plane.driver(reissue_seconds=600, reissues=0)
    plane.clock.now += 601
    await driver.look()
    await plane.events.scored(played(late))
    await plane.events.filtered(
        events_pb2.DialogueFiltered(
            dialogue_id=late.dialogue_id,
            campaign_id=campaign_id,
            round=1,
            dropped_by="late",
            reason="came after its round was sealed",
        )
    )
    (round_,) = (await plane.campaign(campaign_id)).history
    assert (round_.dropped, dict(round_.dropped_by)) == (1, {"late": 1})
    record = (await plane.rpc.GetDialogue(pb.GetDialogueRequest(dialogue=late.dialogue_id), None)).record
    assert (record.decision, record.reason) == ("dropped", "came after its round was sealed")


@pytest.mark.parametrize("round_", [0, 2])
async def test_a_decision_on_a_round_that_is_not_there_is_poison(plane: ControlPlane, round_: int) -> None:
    campaign_id = await plane.create()
    request = (await plane.asked(events_pb2.DialogueRequested))[0]
    await plane.events.scored(played(request))
    with pytest.raises(Poison, match=f"round {round_} of campaign {campaign_id}, which has 1"):
        await plane.events.filtered(
            events_pb2.DialogueFiltered(
                dialogue_id=request.dialogue_id, campaign_id=campaign_id, round=round_, kept=True
            )
        )
    with pytest.raises(Poison, match=f"round {round_} of campaign {campaign_id}"):
        await plane.events.sealed(
            events_pb2.DatasetSealed(dataset_id="x", campaign_id=campaign_id, round=round_, kept=1)
        )
    assert (await plane.campaign(campaign_id)).history[0].kept == 0


async def test_events_of_a_campaign_that_is_not_known_are_dead_letters_and_change_nothing(plane: ControlPlane) -> None:
    campaign_id = await plane.create()
    before = await plane.campaign(campaign_id)
    stranger = "11111111-6ee1-4c53-9f0e-3a4f1f3b0c1d"
    for handle, event in (
        (plane.events.scored, events_pb2.DialogueScored(dialogue_id="x", dialogue=_dialogue(stranger))),
        (plane.events.filtered, events_pb2.DialogueFiltered(dialogue_id="x", campaign_id=stranger, round=1)),
        (plane.events.sealed, events_pb2.DatasetSealed(dataset_id="x", campaign_id=stranger, round=1)),
        (plane.events.trained, events_pb2.TrainingCompleted(training_id="x", campaign_id=stranger, round=1)),
    ):
        with pytest.raises(Poison, match=f"campaign {stranger} is not known here"):
            await handle(event)
    assert await plane.campaign(campaign_id) == before


def _dialogue(campaign_id: str) -> dialogue_pb2.Dialogue:
    return dialogue_pb2.Dialogue(
        id="x",
        campaign_id=campaign_id,
        round=1,
        split=dialogue_pb2.SPLIT_TRAINING,
        end_reason=dialogue_pb2.END_REASON_COMPLETED,
    )
