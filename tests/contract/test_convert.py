"""Domain objects go through messages and back as they were; what the domain does not know is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.contracts.convert import (
    UnreadableMessageError,
    check_dialogue,
    dialogue_from_proto,
    dialogue_to_proto,
    persona_from_proto,
    persona_to_proto,
    scores_from_proto,
    scores_to_proto,
    split_from_proto,
    split_to_proto,
)
from duologue.contracts.topics import DIALOGUE_GENERATED, DIALOGUE_SCORED
from duologue.contracts.v1 import dialogue_pb2 as pb
from duologue.core.dialogue import Decision, Dialogue, EndReason, Preset, Provenance, Role, Split, ToolCall, Turn
from duologue.core.persona import Persona
from duologue.core.scores import Scores
from duologue.core.usage import Account, Usage

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)
FACTS = st.dictionaries(TEXTS, TEXTS, max_size=3)
COUNTS = st.integers(0, 2**63 - 1)
SHARES = st.floats(0, 1)
DECISIONS = st.builds(Decision, TEXTS, TEXTS, st.dictionaries(TEXTS, SHARES, max_size=3))
CALLS = st.builds(ToolCall, TEXTS, FACTS, TEXTS, FACTS)
SPOKEN = st.sampled_from([Role.CLIENT, Role.AGENT])
TURNS = st.builds(
    lambda who, **fields: Turn(role=who[0], call=who[1], **fields),
    who=st.tuples(SPOKEN, st.none()) | st.tuples(st.just(Role.TOOL), CALLS),
    text=TEXTS,
    node=TEXTS,
    instruction=TEXTS,
    decisions=st.lists(DECISIONS, max_size=2).map(tuple),
    repairs=st.lists(TEXTS, max_size=2).map(tuple),
    prompt_tokens=COUNTS,
    completion_tokens=COUNTS,
    seconds=st.floats(0, 1e9),
)
PROVENANCES = st.builds(
    Provenance,
    **dict.fromkeys(set(Provenance.__dataclass_fields__) - {"seed", "structured", "preset"}, TEXTS),
    seed=st.integers(-(2**63), 2**63 - 1),
    structured=st.booleans(),
    preset=st.sampled_from(Preset),
)
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, st.floats(0, 1e9))
ACCOUNTS = st.builds(Account, TEXTS, TEXTS, st.booleans())
DIALOGUES = st.builds(
    Dialogue,
    id=TEXTS,
    campaign_id=TEXTS,
    round=st.integers(0, 2**31 - 1),
    split=st.sampled_from(list(Split)),
    index=COUNTS,
    turns=st.lists(TURNS, max_size=3).map(tuple),
    end_reason=st.sampled_from([reason for reason in EndReason if reason is not EndReason.OTHER]),
    provenance=PROVENANCES,
    facts=FACTS,
    usage=st.dictionaries(ACCOUNTS, USAGES, max_size=3),
)
SCORES = st.builds(
    Scores,
    words=COUNTS,
    ngrams=COUNTS,
    subgoals_absolute=COUNTS,
    subgoals_relative=SHARES,
    subgoals_branch=SHARES,
    ended=st.booleans(),
    success=st.booleans(),
    nodes=st.lists(st.none() | TEXTS.filter(bool), max_size=4).map(tuple),
    repeats=COUNTS,
    role_leaks=COUNTS,
    character_client=st.none() | SHARES,
    character_agent=st.none() | SHARES,
)


@settings(max_examples=60)
@given(DIALOGUES)
def test_a_dialogue_comes_back_as_it_was(dialogue: Dialogue) -> None:
    message = pb.Dialogue.FromString(dialogue_to_proto(dialogue).SerializeToString())
    check_dialogue(message)
    assert dialogue_from_proto(message) == dialogue


@given(SCORES)
def test_scores_come_back_as_they_were(scores: Scores) -> None:
    message = pb.Scores.FromString(scores_to_proto(scores).SerializeToString())
    assert scores_from_proto(message) == scores


def test_a_character_that_was_not_asked_about_is_not_one_that_scored_nothing() -> None:
    scores = Scores(0, 0, 0, 0, 0, False, False, (), 0, 0, character_client=0.0, character_agent=None)
    message = scores_to_proto(scores)
    assert (message.HasField("character_client"), message.HasField("character_agent")) == (True, False)
    assert scores_from_proto(message) == scores


@given(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"), TEXTS, TEXTS)
def test_a_persona_comes_back_as_it_was(persona_id: str, character: str, description: str) -> None:
    persona = Persona(id=persona_id, character=f"a {character}", description=f"I {description}")
    assert persona_from_proto(persona_to_proto(persona)) == persona


@pytest.mark.parametrize("missing", ["id", "character", "description"])
def test_a_persona_that_lacks_something_is_refused_by_name(missing: str) -> None:
    message = pb.Persona(id="teacher", character="a teacher", description="I teach.")
    message.ClearField(missing)
    with pytest.raises(UnreadableMessageError, match=missing):
        persona_from_proto(message)


@pytest.mark.parametrize("split", list(Split))
def test_a_split_comes_back_as_it_was(split: Split) -> None:
    assert split_from_proto(split_to_proto(split)) is split


def test_every_value_of_the_protos_has_its_word_in_the_domain() -> None:
    unsaid = (EndReason.OTHER, Preset.DUOLOGUE)
    for enum, words in ((pb.Role, Role), (pb.Split, Split), (pb.EndReason, EndReason), (pb.Preset, Preset)):
        prefix = f"{_screaming(enum.DESCRIPTOR.name)}_"
        names = {name.removeprefix(prefix).lower() for name in enum.DESCRIPTOR.values_by_name}
        assert names == {"unspecified", *(word.value for word in words if word not in unsaid)}


def _screaming(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).strip("_").upper()


BOTH = pytest.mark.parametrize("read", [dialogue_from_proto, check_dialogue])
Read = Callable[[pb.Dialogue], object]


@BOTH
@pytest.mark.parametrize("number", [0, 99, -1])
def test_a_word_that_this_version_does_not_know_is_refused_by_name(number: int, read: Read) -> None:
    sound = DIALOGUE_GENERATED.example.dialogue
    for said, spoil in (
        ("unknown split", lambda message: setattr(message, "split", number)),
        ("unknown role", lambda message: setattr(message.turns[0], "role", number)),
    ):
        message = pb.Dialogue()
        message.CopyFrom(sound)
        spoil(message)
        with pytest.raises(UnreadableMessageError, match=f"{said} {number}"):
            read(message)


@BOTH
@pytest.mark.parametrize("number", [99, -1])
def test_a_preset_that_this_version_does_not_know_is_refused(number: int, read: Read) -> None:
    message = pb.Dialogue()
    message.CopyFrom(DIALOGUE_GENERATED.example.dialogue)
    message.provenance.preset = number
    with pytest.raises(UnreadableMessageError, match=f"unknown preset {number}"):
        read(message)


def test_a_dialogue_from_before_there_were_presets_was_played_by_duologue_s_own() -> None:
    message = pb.Dialogue()
    message.CopyFrom(DIALOGUE_GENERATED.example.dialogue)
    message.provenance.ClearField("preset")
    assert dialogue_from_proto(message).provenance.preset is Preset.DUOLOGUE


@BOTH
@pytest.mark.parametrize("number", [0, -1])
def test_a_dialogue_that_does_not_say_why_it_ended_is_refused(number: int, read: Read) -> None:
    message = pb.Dialogue()
    message.CopyFrom(DIALOGUE_GENERATED.example.dialogue)
    message.end_reason = number
    with pytest.raises(UnreadableMessageError, match=f"unknown end reason {number}"):
        read(message)


def test_an_end_reason_of_a_newer_version_is_read_as_another_one() -> None:
    message = pb.Dialogue()
    message.CopyFrom(DIALOGUE_GENERATED.example.dialogue)
    message.end_reason = 99
    assert dialogue_from_proto(message).end_reason is EndReason.OTHER


@BOTH
@pytest.mark.parametrize(
    ("role", "claim"), [(pb.ROLE_TOOL, "is a tool's and has no call"), (pb.ROLE_AGENT, "has a call")]
)
def test_calls_are_what_tools_do_and_all_that_they_do(role: pb.Role.ValueType, claim: str, read: Read) -> None:
    message = pb.Dialogue()
    message.CopyFrom(DIALOGUE_GENERATED.example.dialogue)
    message.turns[0].role = role
    if role == pb.ROLE_AGENT:
        message.turns[0].call.name = "look_up"
    with pytest.raises(UnreadableMessageError, match=rf"turns\[0\] {claim}"):
        read(message)


def test_the_examples_of_the_topics_are_dialogues_and_scores() -> None:
    example = DIALOGUE_SCORED.example
    assert dialogue_to_proto(dialogue_from_proto(example.dialogue)) == example.dialogue
    assert scores_to_proto(scores_from_proto(example.scores)) == example.scores
    assert persona_to_proto(persona_from_proto(example.persona)) == example.persona
