"""What self-talk asks its models, what it records of the answers, and play without structured prompting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from duologue.core.dialogue import EndReason, Role
from duologue.core.labelled import questions_to_label
from duologue.core.prompts import PROMPTS_VERSION
from duologue.core.temperature import tempered
from duologue.core.usage import Account, Part, total
from duologue.models import ModelRefused, ModelUnavailable
from duologue.models.calibration import Calibration, Temperature
from tests.support.desk import DESK, TEACHER
from tests.support.desk_models import AGENT_TOKENS, CLIENT_TOKENS, deciding, is_agent, obedient, plan, play
from tests.support.model_server import CHAT, DECISIONS, Answered, ScriptedModelServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedModelServer]:
    async with ScriptedModelServer(obedient, deciding()) as server:
        yield server


async def test_all_questions_about_a_reply_go_in_one_request_and_are_recorded_with_probabilities(
    server: ScriptedModelServer,
) -> None:
    dialogue = await play(server, plan())
    replies = [turn for turn in dialogue.turns if turn.role is Role.CLIENT]
    requests = server.asked(DECISIONS)
    assert len(requests) == len(replies) == 2
    assert set(requests[0].body["questions"]) == {"reply", "applies", "aside", "ended"}
    assert requests[0].body["state"] == (
        "Agent: Hello, this is the parcel desk. What is your tracking code?\nClient: It is PK-4471."
    )
    decided = {decision.question: decision for decision in replies[0].decisions}
    assert decided["reply"].answer == "gives_code"
    assert decided["reply"].probabilities == pytest.approx({"gives_code": 0.8, "no_code": 0.2})
    assert decided["applies"].probabilities == pytest.approx({"yes": 0.9, "no": 0.1})
    assert decided["ended"].answer == "no"


async def test_replies_are_shown_to_the_manager_with_the_client_s_own_facts(server: ScriptedModelServer) -> None:
    await play(server, plan())
    assert server.asked(DECISIONS)[0].body["questions"]["reply"]["criteria"] == {
        "gives_code": "It is PK-4471.",
        "no_code": "I have no code.",
    }


async def test_tokens_and_seconds_of_all_models_are_counted(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan())
    agent = [turn for turn in dialogue.turns if turn.role is Role.AGENT]
    client = [turn for turn in dialogue.turns if turn.role is Role.CLIENT]
    assert [(turn.prompt_tokens, turn.completion_tokens) for turn in agent] == [AGENT_TOKENS] * 3
    # the manager's four questions cost 30 tokens each
    assert [(turn.prompt_tokens, turn.completion_tokens) for turn in client] == [
        (CLIENT_TOKENS[0] + 4 * 30, CLIENT_TOKENS[1])
    ] * 2
    assert all(turn.seconds > 0 for turn in (*agent, *client))


async def test_usage_is_told_by_part_and_model_and_is_that_of_all_turns(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan(client_model="a", agent_model="b", manager_model="c"))
    assert {account: usage.prompt_tokens for account, usage in dialogue.usage.items()} == {
        Account(Part.AGENT, "b"): 3 * AGENT_TOKENS[0],
        Account(Part.CLIENT, "a"): 2 * CLIENT_TOKENS[0],
        Account(Part.MANAGER, "c"): 2 * 4 * 30,
    }
    whole = total(dialogue.usage.values())
    assert (whole.prompt_tokens, whole.completion_tokens) == (dialogue.prompt_tokens, dialogue.completion_tokens)
    assert whole.seconds == pytest.approx(dialogue.model_seconds)


async def test_three_requests_make_a_pair_of_turns(server: ScriptedModelServer) -> None:
    await play(server, plan())
    assert [request.path for request in server.requests] == [CHAT, CHAT, DECISIONS] * 2 + [CHAT]


async def test_every_request_of_a_dialogue_has_another_seed(server: ScriptedModelServer) -> None:
    await play(server, plan(seed=7))
    await play(server, plan(seed=8))
    seeds = [request.body["seed"] for request in server.asked(CHAT)]
    assert len(seeds) == 10
    assert len(set(seeds)) == 10
    assert all(0 <= seed < 2**31 for seed in seeds)


async def test_a_plan_that_is_played_again_asks_for_the_same(server: ScriptedModelServer) -> None:
    first = await play(server, plan())
    again = await play(server, plan())
    half = len(server.requests) // 2
    assert [request.body for request in server.requests[:half]] == [request.body for request in server.requests[half:]]
    assert [turn.text for turn in first.turns] == [turn.text for turn in again.turns]


async def test_a_second_try_has_a_seed_of_its_own(server: ScriptedModelServer) -> None:
    server.say = lambda _: "Client:"
    await play(server, plan())
    first, second = (request.body for request in server.asked(CHAT))
    assert first["seed"] != second["seed"]
    assert first["messages"] == second["messages"]


async def test_each_role_is_asked_with_its_own_prompt_and_the_plan_s_sampling(server: ScriptedModelServer) -> None:
    await play(server, plan())
    agent, client = server.asked(CHAT)[:2]
    assert is_agent(agent)
    assert client.system.startswith("You are a retired teacher. I like things explained. Your intention is to talk to")
    assert "find out where a parcel is" in client.system
    assert "code: PK-4471" in client.system
    assert "PK-4471" not in agent.system
    for request, other in ((agent, "Client:"), (client, "Agent:")):
        assert (request.body["temperature"], request.body["top_p"], request.body["max_tokens"]) == (0.8, 0.95, 100)
        assert request.body["stop"] == [other]


async def test_models_of_the_plan_are_asked_for_by_name(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan(client_model="a", agent_model="b", manager_model="c"))
    models = [request.body["model"] for request in server.requests]
    assert models == ["b", "a", "c"] * 2 + ["b"]
    assert (dialogue.provenance.client_model, dialogue.provenance.agent_model) == ("a", "b")


@pytest.mark.parametrize("intention", ["late", "lost"])
async def test_a_recorded_dialogue_is_enough_to_ask_the_manager_s_questions_again(
    server: ScriptedModelServer, intention: str
) -> None:
    dialogue = await play(server, plan(intention))
    asked = [(request.body["state"], request.body["questions"]) for request in server.asked(DECISIONS)]
    assert [(line.state, line.asked) for line in questions_to_label(dialogue, DESK)] == asked


async def test_a_dialogue_says_at_which_temperatures_its_manager_decided(
    server: ScriptedModelServer, tmp_path: Path
) -> None:
    found = Temperature(model="c", prompts=PROMPTS_VERSION, question="noul", temperature=2.5, examples=60)
    file = tmp_path / "calibration.json"
    file.write_text(Calibration(temperatures=[found]).model_dump_json())
    dialogue = await play(server, plan(manager_model="c"), endpoint={"calibration": str(file)})
    assert dialogue.provenance.manager_calibration == "noul 2.5"
    (first, *_) = (turn for turn in dialogue.turns if turn.role is Role.CLIENT)
    (applies,) = (decision for decision in first.decisions if decision.question == "applies")
    assert applies.probabilities == pytest.approx(tempered({"yes": 0.9, "no": 0.1}, 2.5))
    assert (await play(server, plan())).provenance.manager_calibration == ""


async def test_a_dialogue_says_where_it_came_from(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan(adapter_id="desk-r1", adapter_fingerprint="f00"))
    provenance = dialogue.provenance
    assert (provenance.workflow_id, provenance.workflow_version) == (DESK.id, DESK.version)
    assert (provenance.persona_id, provenance.persona_version) == (TEACHER.id, TEACHER.version)
    assert (provenance.intention_id, provenance.prompts_version, provenance.seed) == ("late", PROMPTS_VERSION, 7)
    assert {provenance.client_model, provenance.agent_model, provenance.manager_model} == {"scripted"}
    assert (provenance.adapter_id, provenance.adapter_fingerprint) == ("desk-r1", "f00")
    assert (dialogue.round, dialogue.index, dialogue.campaign_id) == (1, 3, plan().campaign_id)


async def test_free_play_tells_the_agent_nothing_and_watches_the_end_only(server: ScriptedModelServer) -> None:
    server.decide = deciding(ended=[0.1, 0.9])
    dialogue = await play(server, plan(structured=False))
    assert dialogue.end_reason is EndReason.CLIENT_LEFT
    assert [turn.role for turn in dialogue.turns] == [Role.AGENT, Role.CLIENT] * 2
    assert {(turn.node, turn.instruction) for turn in dialogue.turns} == {("", "")}
    assert all("[" not in request.last for request in server.asked(CHAT))
    assert [set(request.body["questions"]) for request in server.asked(DECISIONS)] == [{"ended"}] * 2
    assert not dialogue.provenance.structured


async def test_free_play_stops_at_the_turn_limit(server: ScriptedModelServer) -> None:
    dialogue = await play(server, plan(structured=False, max_turns=3))
    assert dialogue.end_reason is EndReason.TURN_LIMIT
    assert len(dialogue.said_by(Role.AGENT)) == 3


@pytest.mark.parametrize(("status", "error"), [(503, ModelUnavailable), (422, ModelRefused)])
@pytest.mark.parametrize("speculate", [False, True])
async def test_a_model_that_fails_in_the_middle_fails_the_dialogue(
    server: ScriptedModelServer, status: int, error: type[Exception], speculate: bool
) -> None:
    def decide(*_: object) -> float:
        server.faults.append(Answered(status))
        return 0.9

    server.decide = decide
    with pytest.raises(error, match=str(status)):
        await play(server, plan(), speculate=speculate)
