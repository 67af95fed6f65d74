"""Dialogues and their ids."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from duologue.core.dialogue import Decision, Dialogue, EndReason, Provenance, Role, Split, Turn, dialogue_id

CAMPAIGN = "0b0e7a52-6ee1-4c53-9f0e-3a4f1f3b0c1d"
PLACES = st.tuples(st.uuids().map(str), st.integers(1, 1000), st.sampled_from(list(Split)), st.integers(0, 1_000_000))


@given(PLACES)
def test_an_id_is_the_uuid5_of_campaign_round_split_and_index(place: tuple[str, int, Split, int]) -> None:
    campaign, round_, split, index = place
    found = uuid.UUID(dialogue_id(*place))
    assert found == uuid.uuid5(uuid.UUID(campaign), f"{round_}/{split}/{index}")
    assert found.version == 5


@given(st.sets(PLACES, min_size=2))
def test_different_places_have_different_ids(places: set[tuple[str, int, Split, int]]) -> None:
    assert len({dialogue_id(*place) for place in places}) == len(places)


def test_digits_do_not_run_into_each_other() -> None:
    ids = {dialogue_id(CAMPAIGN, *place) for place in ((1, Split.TRAINING, 11), (11, Split.TRAINING, 1))}
    assert len(ids) == 2


def test_ids_stay_what_they_are() -> None:
    # Sealed datasets, rows and messages are found by them: a change of this figure loses dialogues.
    assert dialogue_id(CAMPAIGN, 1, Split.TRAINING, 0) == "56130d6d-4da9-58ea-a426-138f0ef43674"
    assert dialogue_id(CAMPAIGN, 2, Split.EVALUATION, 41) == "f8dc4989-a616-5f37-a182-d7bf53ab84a7"


def test_a_dialogue_adds_up_its_turns() -> None:
    provenance = Provenance("w", "v", "p", "v", "i", "1", 7, True, "c", "a", "m")
    turns = (
        Turn(Role.AGENT, "Hello?", prompt_tokens=10, completion_tokens=2, seconds=0.5),
        Turn(Role.TOOL, "found"),
        Turn(Role.CLIENT, "Hi.", prompt_tokens=7, completion_tokens=1, seconds=0.25),
        Turn(Role.AGENT, "Bye.", prompt_tokens=15, completion_tokens=3, seconds=1.0),
    )
    dialogue = Dialogue("id", CAMPAIGN, 1, Split.TRAINING, 0, turns, EndReason.COMPLETED, provenance)
    assert dialogue.said_by(Role.AGENT) == ["Hello?", "Bye."]
    assert dialogue.said_by(Role.CLIENT) == ["Hi."]
    assert (dialogue.prompt_tokens, dialogue.completion_tokens, dialogue.model_seconds) == (32, 6, 1.75)


def test_the_probability_of_a_decision_is_that_of_its_answer() -> None:
    assert Decision("applies", "no", {"yes": 0.25, "no": 0.75}).probability == 0.75
