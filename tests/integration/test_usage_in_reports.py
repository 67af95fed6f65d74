"""What model servers tell of their tokens goes through role-play and scoring into the campaign's report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from duologue.bus.codec import decode
from duologue.contracts.v1 import events_pb2
from duologue.models import ChatModel, DecisionModel, ModelServer
from duologue.store import ArtifactStore
from duologue_campaign.settings import PriceSettings
from duologue_roleplay.adapters import Adapters
from duologue_roleplay.self_talk import SelfTalk
from duologue_roleplay.worker import PlayDialogue
from duologue_scoring.scorer import Scorer
from duologue_scoring.worker import ScoreDialogue
from tests.support.control_plane import control_plane
from tests.support.desk_models import AGENT_TOKENS, CLIENT_TOKENS, deciding, is_agent, obedient
from tests.support.model_server import ModelRequest, Said, ScriptedModelServer

PRICES = {"models": {"big": {"prompt": 4, "cached": 1, "completion": 10}, "*": {"prompt": 1}}}


def telling(request: ModelRequest) -> Said:
    """The agent's server tells what it had in its cache."""
    said = obedient(request)
    return replace(said, cached_tokens=60) if is_agent(request) else said


async def test_what_servers_tell_is_what_the_report_says_and_costs(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path, prices=PriceSettings.model_validate(PRICES)) as plane,
        ScriptedModelServer(telling, deciding()) as server,
        ModelServer(server.endpoint(model="small")) as small,
        ModelServer(server.endpoint(model="big")) as big,
    ):
        self_talk = SelfTalk(ChatModel(small), ChatModel(big), DecisionModel(small))
        play = PlayDialogue(self_talk, plane.workflows, Adapters(big, ArtifactStore(str(tmp_path))))
        score = ScoreDialogue(Scorer(DecisionModel(small)), plane.workflows)
        campaign_id = await plane.create(dialogues=1)
        (request,) = await plane.asked(events_pb2.DialogueRequested)
        (generated,) = await play.handle(request)
        (scored,) = await score.handle(decode(events_pb2.DialogueGenerated, generated))
        await plane.events.scored(decode(events_pb2.DialogueScored, scored))
        campaign = await plane.campaign(campaign_id)

    used = {expense.usage.part: expense.usage for expense in campaign.expenses}
    assert {part: usage.model for part, usage in used.items()} == {
        "agent": "big",
        "client": "small",
        "manager": "small",
        "judge": "small",
    }
    turns = used["agent"].prompt_tokens // AGENT_TOKENS[0]
    assert used["agent"].cached_tokens == turns * 60
    assert used["agent"].told_tokens == turns * AGENT_TOKENS[0]
    assert used["client"].prompt_tokens == (turns - 1) * CLIENT_TOKENS[0]
    assert used["client"].told_tokens == used["manager"].told_tokens == used["judge"].told_tokens == 0
    assert sum(usage.prompt_tokens for usage in used.values()) == campaign.prompt_tokens
    assert sum(usage.completion_tokens for usage in used.values()) == campaign.completion_tokens
    of_agent = turns * ((AGENT_TOKENS[0] - 60) * 4 + 60 * 1 + AGENT_TOKENS[1] * 10)
    of_others = campaign.prompt_tokens - used["agent"].prompt_tokens
    assert campaign.cost.amount == (of_agent + of_others) / 1e6
