"""What the imitated models of `desk` say: an agent that obeys, a client that answers, a manager that understands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from duologue.core.dialogue import Dialogue, Split
from duologue.core.prompts import NO_ASIDE
from duologue.core.workflow import Workflow
from duologue.models import ChatModel, DecisionModel, ModelServer, Sampling
from duologue_roleplay.self_talk import Plan, SelfTalk
from tests.support.desk import CAMPAIGN_ID, DESK, TEACHER
from tests.support.model_server import CHAT, Decide, ModelRequest, Said, Say, ScriptedModelServer

AGENT_TOKENS, CLIENT_TOKENS = (100, 10), (50, 4)

_REPLIES = {
    "tracking code": "It is PK-4471.",
    "another parcel": "No, that was all.",
    "ask the sender": "Yes, please do.",
    "bring them back": "They do not fit.",
}
_SAY_NOW = re.compile(r"^Say now: (.*)$", re.MULTILINE)
_OPTION = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)
_EDGES = ("gives_code", "nothing", "please", "says_why")


def is_agent(request: ModelRequest) -> bool:
    return request.system.startswith(("You are a clerk", "You are a seller"))


def obedient(request: ModelRequest) -> Said:
    """The agent says what it is told to, the client what fits the question."""
    if is_agent(request):
        return Said(request.instruction or "How can I help you?", False, *AGENT_TOKENS)
    reply = next((reply for cue, reply in _REPLIES.items() if cue in request.last), "Well.")
    return Said(reply, False, *CLIENT_TOKENS)


def deciding(**script: Any) -> Decide:
    """A manager that finds every reply fitting, but for the questions in `script`: an answer, or answers in order."""

    def decide(_: ModelRequest, name: str, question: dict[str, Any]) -> float | str | Mapping[str, float]:
        answer = script.get(name)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if answer is not None:
            return answer
        if question["type"] == "noul":
            return 0.05 if name == "ended" else 0.9
        options = list(question["criteria"])
        best = next((option for option in (*_EDGES, NO_ASIDE) if option in options), options[0])
        rest = 0.2 / (len(options) - 1)
        return {option: 0.8 if option == best else rest for option in options}

    return decide


def is_choice(request: ModelRequest) -> bool:
    """Whether the paper's workflow manager is asked."""
    return request.path == CHAT and request.system.startswith("You decide which")


def is_stage(request: ModelRequest) -> bool:
    """Whether the paper's end detector is asked."""
    return request.path == CHAT and request.system.startswith("You decide where")


def as_in_the_paper(choices: Iterable[str] = (), stages: Iterable[str] = (), replies: Iterable[str] = ()) -> Say:
    """Models that are asked as in the paper: obedient ones, a manager that finds the very words, and never an end.

    What the scripts have comes first, one for each time that somebody is asked.
    """
    choice, stage, scripted = iter(choices), iter(stages), iter(replies)

    def say(request: ModelRequest) -> Said:
        if is_choice(request):
            number = next(choice, None)
            return Said(_number_of_what_was_said(request) if number is None else number)
        if is_stage(request):
            return Said(next(stage, "middle"))
        if is_agent(request):
            told = _SAY_NOW.search(request.last)
            return Said(told[1] if told else "How can I help you?", False, *AGENT_TOKENS)
        question = request.last.rpartition("Agent: ")[2]
        fitting = next((reply for cue, reply in _REPLIES.items() if cue in question), "Well.")
        return Said(next(scripted, fitting), False, *CLIENT_TOKENS)

    return say


def _number_of_what_was_said(request: ModelRequest) -> str:
    said = request.last.partition("The client said: ")[2].partition("\n")[0]
    options = _OPTION.findall(request.last)
    return next((number for number, wording in options if wording == said), options[-1][0])


def plan(intention: str = "late", workflow: Workflow = DESK, **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "dialogue_id": "5d0f6d6e-3f43-5a55-8d7e-0f2f4a0f5a11",
        "campaign_id": CAMPAIGN_ID,
        "round": 1,
        "split": Split.TRAINING,
        "index": 3,
        "seed": 7,
        "workflow": workflow,
        "persona": TEACHER,
        "intention": workflow.intention(intention),
        "sampling": Sampling(0.8, 0.95, 100),
        "max_turns": 8,
        "recoveries": 2,
        "structured": True,
        "client_model": "",
        "agent_model": "",
        "manager_model": "",
    }
    return Plan(**(fields | changes))


async def play(server: ScriptedModelServer, played: Plan, **options: Any) -> Dialogue:
    """One dialogue with all three models on one server; a failed request is not repeated. `endpoint`: its changes."""
    told, changes = options.pop("told", None), options.pop("endpoint", {})
    async with ModelServer(server.endpoint(patience_seconds=0, **changes)) as models:
        self_talk = SelfTalk(ChatModel(models), ChatModel(models), DecisionModel(models), **options)
        return await self_talk.play(played, told)
