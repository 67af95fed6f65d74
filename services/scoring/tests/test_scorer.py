"""All scores of a dialogue: counted ones as they are, and a judge's mean probability of being in character."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from duologue.core.dialogue import Role, Turn
from duologue.core.prompts import PROMPTS_VERSION
from duologue.core.scores import Utterance, score_dialogue
from duologue.core.temperature import tempered
from duologue.models import DecisionModel, ModelServer, ModelUnavailable
from duologue.models.calibration import Calibration, Temperature
from duologue_scoring.scorer import Scorer
from tests.support.desk import DESK, TEACHER, dialogue
from tests.support.model_server import DECISIONS, Answered, ModelRequest, ScriptedModelServer

# How well each utterance fits its character.
FITS = {
    "Hello": 0.9,
    "It is PK-4471": 0.4,
    "Your parcel": 0.6,
    "No, that was all": 0.8,
    "Then have": 0.3,
}


def fitting(_: ModelRequest, __: str, question: dict[str, str]) -> float:
    return next(probability for start, probability in FITS.items() if f'"{start}' in question["instructions"])


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(decide=fitting) as server:
        yield server


@pytest.fixture
async def scorer(server: ScriptedModelServer) -> AsyncIterator[Scorer]:
    async with ModelServer(server.endpoint(patience_seconds=0)) as judge:
        yield Scorer(DecisionModel(judge))


async def test_what_can_be_counted_is_counted_as_everywhere(scorer: Scorer) -> None:
    spoken = dialogue()
    scores, _ = await scorer.score(spoken, DESK, TEACHER)
    counted = score_dialogue([Utterance(turn.role, turn.text) for turn in spoken.turns], DESK, spoken.facts)
    assert replace(scores, character_agent=None, character_client=None) == counted
    assert scores.nodes == ("greet", "tell", "bye")


async def test_being_in_character_is_the_mean_over_a_role_s_utterances(scorer: Scorer) -> None:
    scores, _ = await scorer.score(dialogue(), DESK, TEACHER)
    assert scores.character_agent == pytest.approx((0.9 + 0.6 + 0.3) / 3)
    assert scores.character_client == pytest.approx((0.4 + 0.8) / 2)


async def test_the_judge_is_asked_once_per_role_with_the_character_and_every_utterance(
    scorer: Scorer, server: ScriptedModelServer
) -> None:
    await scorer.score(dialogue(), DESK, TEACHER)
    asked = {request.body["state"]: request.body["questions"] for request in server.asked(DECISIONS)}
    assert {state: len(questions) for state, questions in asked.items()} == {
        "Character: a clerk at the parcel desk. I like order.": 3,
        "Character: a retired teacher. I like things explained.": 2,
    }


async def test_what_a_tool_says_is_nobody_s_character(scorer: Scorer, server: ScriptedModelServer) -> None:
    await scorer.score(dialogue(), DESK, TEACHER)
    questions = [question for request in server.requests for question in request.body["questions"].values()]
    assert not any("look_up" in question["instructions"] for question in questions)


async def test_a_role_that_said_nothing_has_no_character_score(scorer: Scorer) -> None:
    silent, _ = await scorer.score(dialogue(turns=()), DESK, TEACHER)
    assert (silent.character_agent, silent.character_client) == (None, None)
    agent_only, _ = await scorer.score(dialogue(turns=dialogue().turns[:1]), DESK, TEACHER)
    assert agent_only.character_agent == pytest.approx(0.9)
    assert agent_only.character_client is None


async def test_a_role_leak_counts_whether_it_was_mended_or_is_still_there(scorer: Scorer) -> None:
    turns = list(dialogue().turns)
    turns[1] = replace(turns[1], repairs=("role_leak", "empty", "role_leak"))
    turns[4] = replace(turns[4], text="No, that was all. Agent: Bye.")
    scores, _ = await scorer.score(dialogue(turns=tuple(turns)), DESK, TEACHER)
    assert scores.role_leaks == 2


async def test_a_dialogue_with_more_utterances_than_a_request_takes_is_judged_by_the_first_of_them(
    scorer: Scorer, server: ScriptedModelServer
) -> None:
    turns = (Turn(Role.AGENT, "Hello again."),) * 70
    scores, _ = await scorer.score(dialogue(turns=turns), DESK, TEACHER)
    assert scores.character_agent == pytest.approx(0.9)
    assert len(server.requests[0].body["questions"]) == 64


async def test_what_the_judge_cost_is_told(scorer: Scorer) -> None:
    _, cost = await scorer.score(dialogue(), DESK, TEACHER)
    assert cost.prompt_tokens == 5 * 30  # the scripted server's price of a question
    assert cost.seconds > 0
    _, nothing = await scorer.score(dialogue(turns=()), DESK, TEACHER)
    assert (nothing.prompt_tokens, nothing.seconds) == (0, 0)


async def test_what_the_engine_asked_again_is_no_repeat(scorer: Scorer) -> None:
    greeting = dialogue().turns[0]
    told, untold = replace(greeting, again=True), greeting
    for turn, repeats in ((told, 0), (untold, 1)):
        scores, _ = await scorer.score(dialogue(turns=(greeting, turn)), DESK, TEACHER)
        assert scores.repeats == repeats


async def test_a_judge_that_does_not_answer_leaves_the_dialogue_unscored(
    scorer: Scorer, server: ScriptedModelServer
) -> None:
    server.faults = [Answered(200, '{"answers": {"0": {"type": "noul", "noul": null}}}')]
    with pytest.raises(ModelUnavailable):
        await scorer.score(dialogue(), DESK, TEACHER)


async def test_a_judge_that_is_calibrated_judges_at_its_temperature(
    server: ScriptedModelServer, tmp_path: Path
) -> None:
    found = Temperature(model="scripted", prompts=PROMPTS_VERSION, question="noul", temperature=2.0, examples=60)
    file = tmp_path / "calibration.json"
    file.write_text(Calibration(temperatures=[found]).model_dump_json())
    async with ModelServer(server.endpoint(calibration=str(file))) as judge:
        scores, _ = await Scorer(DecisionModel(judge)).score(dialogue(), DESK, TEACHER)
    agent = [tempered({"yes": yes, "no": 1 - yes}, 2.0)["yes"] for yes in (0.9, 0.6, 0.3)]
    assert scores.character_agent == pytest.approx(sum(agent) / 3)
