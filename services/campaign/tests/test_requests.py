"""Which dialogues a campaign asks for: everything comes, evenly, in pairs, and the same every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.contracts.v1 import dialogue_pb2, events_pb2
from duologue.core.campaign import Campaign, CampaignSpec
from duologue.core.dialogue import Split, dialogue_id
from duologue.core.problems import InvalidInput
from duologue_campaign.requests import Cast, cast_of, evaluation_request, training_request
from duologue_campaign.specs import read_spec
from tests.support.desk import CAMPAIGN_ID, DESK_YAML, FILES, spec_text

ARMS = (dialogue_pb2.AdapterRef(), dialogue_pb2.AdapterRef(id="new", served_model="merged/new"))
OTHER = "11111111-6ee1-4c53-9f0e-3a4f1f3b0c1d"


# Two training workflows of two intentions each, two personas; one held-out workflow, one persona.
CAMPAIGN = read_spec(
    spec_text(workflows={"training": ["desk.yaml", "second.yaml"], "held_out": ["shop.yaml"]}),
    "campaign.yaml",
    FILES | {"second.yaml": DESK_YAML.replace("workflow: parcel_desk", "workflow: letter_desk")},
)


def campaign(**changes: object) -> Campaign:
    spec = CampaignSpec.model_validate(CAMPAIGN.spec.model_dump() | changes)
    return replace(CAMPAIGN, spec=spec)


def key(cast: Cast) -> tuple[str, str, str]:
    return cast.workflow.id, cast.intention_id, cast.persona.id


def requests(source: Campaign, count: int, round_: int = 1) -> list[events_pb2.DialogueRequested]:
    return [training_request(source, CAMPAIGN_ID, round_, index, ARMS[0]) for index in range(count)]


@settings(deadline=None)
@given(seed=st.integers(0, 2**31 - 1), round_=st.integers(1, 5))
def test_every_combination_comes_once_before_any_comes_twice(seed: int, round_: int) -> None:
    source = campaign(seed=seed)
    casts = [key(cast_of(source, Split.TRAINING, round_, index)) for index in range(24)]
    assert len(set(casts[:8])) == len(set(casts[8:16])) == len(set(casts[16:])) == 8
    assert casts[:8] == casts[8:16]


@settings(deadline=None)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 40))
def test_even_a_short_round_has_its_share_of_every_workflow(seed: int, count: int) -> None:
    source = campaign(seed=seed)
    shares = Counter(cast_of(source, Split.TRAINING, 1, index).workflow.id for index in range(count))
    assert abs(shares["parcel_desk"] - shares["letter_desk"]) <= 1


def test_rounds_and_seeds_are_cast_in_other_orders() -> None:
    def order(seed: int, round_: int) -> tuple[object, ...]:
        return tuple(key(cast_of(campaign(seed=seed), Split.TRAINING, round_, index)) for index in range(8))

    assert len({order(seed, round_) for seed in range(4) for round_ in range(1, 4)}) > 6


def test_a_request_is_the_same_however_often_it_is_made() -> None:
    assert requests(campaign(), 10) == requests(campaign(), 10)


def test_each_dialogue_has_an_id_of_its_own_that_campaign_round_split_and_index_decide() -> None:
    source = campaign()
    ids = [
        request.dialogue_id
        for campaign_id in (CAMPAIGN_ID, OTHER)
        for round_ in (1, 2)
        for index in range(20)
        for request in (
            training_request(source, campaign_id, round_, index, ARMS[0]),
            evaluation_request(source, campaign_id, round_, index, ARMS),
        )
    ]
    assert len(set(ids)) == len(ids) == 160
    assert requests(source, 4)[3].dialogue_id == dialogue_id(CAMPAIGN_ID, 1, Split.TRAINING, 3)


def test_training_never_sees_what_is_held_out() -> None:
    source = campaign()
    trained = {key(cast_of(source, Split.TRAINING, 1, index)) for index in range(50)}
    held_out = {key(cast_of(source, Split.EVALUATION, 0, index)) for index in range(50)}
    assert {workflow for workflow, _, _ in trained} == {"parcel_desk", "letter_desk"}
    assert {workflow for workflow, _, _ in held_out} == {"shoe_shop"}
    assert {persona for _, _, persona in held_out} == {"baker"}


def test_both_adapters_of_a_pair_meet_the_same_client_with_the_same_seed() -> None:
    source = campaign()
    asked = [evaluation_request(source, CAMPAIGN_ID, 2, index, ARMS) for index in range(8)]
    for current, candidate in zip(asked[::2], asked[1::2], strict=True):
        assert (current.adapter, candidate.adapter) == ARMS
        assert current.dialogue_id != candidate.dialogue_id
        for name in ("seed", "workflow", "persona", "intention_id", "decoding", "role_play", "models"):
            assert getattr(current, name) == getattr(candidate, name)
    assert len({request.seed for request in asked}) == 4


def test_every_round_is_evaluated_on_the_same_casts() -> None:
    source = campaign()

    def casts(round_: int) -> list[tuple[str, str, str]]:
        asked = [evaluation_request(source, CAMPAIGN_ID, round_, index, ARMS) for index in range(8)]
        return [(request.workflow.id, request.intention_id, request.persona.id) for request in asked]

    assert casts(1) == casts(2)


def test_seeds_differ_between_dialogues_and_rounds() -> None:
    source = campaign()
    seeds = [request.seed for round_ in (1, 2) for request in requests(source, 50, round_)]
    assert len(set(seeds)) == 100


def test_a_request_carries_what_the_spec_says() -> None:
    source = campaign(
        models={"client": "c", "agent": "a", "manager": "m"},
        decoding={"temperature": 0.5, "top_p": 0.25, "max_tokens": 7, "top_k": 9},
        role_play={"max_turns": 5, "recoveries": 1},
    )
    (request,) = requests(source, 1)
    assert (request.models.client, request.models.agent, request.models.manager) == ("c", "a", "m")
    assert request.decoding == events_pb2.Decoding(temperature=0.5, top_p=0.25, max_tokens=7, top_k=9)
    assert (request.role_play.max_turns, request.role_play.recoveries) == (5, 1)
    workflow = source.training_workflows[0]
    assert (request.workflow.id, request.workflow.version) == (workflow.id, workflow.version)
    assert request.workflow.artifact.uri == f"workflows/{workflow.version}.json"
    assert request.persona.description


def test_requests_of_both_splits_name_the_preset_and_carry_its_figures() -> None:
    source = read_spec(spec_text(preset="ulmer2024"), "desk.yaml", FILES)
    asked = (training_request(source, CAMPAIGN_ID, 1, 0, ARMS[0]), evaluation_request(source, CAMPAIGN_ID, 1, 0, ARMS))
    for request in asked:
        assert request.role_play.preset == dialogue_pb2.PRESET_ULMER2024
        assert request.role_play.max_turns == 8
        assert request.decoding == events_pb2.Decoding(temperature=0.8, top_p=0.95, max_tokens=100, top_k=50)
    (plain,) = requests(campaign(), 1)
    assert (plain.role_play.preset, plain.decoding.top_k) == (dialogue_pb2.PRESET_UNSPECIFIED, 0)


@pytest.mark.parametrize("structured", [True, False])
def test_only_evaluation_may_go_without_structured_prompting(structured: bool) -> None:
    source = campaign(evaluation={"dialogues": 2, "structured": structured})
    assert training_request(source, CAMPAIGN_ID, 1, 0, ARMS[0]).role_play.structured
    assert evaluation_request(source, CAMPAIGN_ID, 1, 0, ARMS).role_play.structured is structured


def test_a_spec_that_names_a_file_that_was_not_sent_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"can't read shop\.yaml: the file was not sent with the spec"):
        read_spec(spec_text(), "desk.yaml", {name: text for name, text in FILES.items() if name != "shop.yaml"})
