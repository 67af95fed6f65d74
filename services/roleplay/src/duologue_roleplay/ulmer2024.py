"""The workflow manager and the end detector of the paper: the client's model picks a number, or says one word.

For comparison with `manager`: an answer is whatever can be read out of text, and is taken for certain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from duologue.core.dialogue import Decision
from duologue.core.prompts import Message, reply_wordings
from duologue.core.scores import Utterance
from duologue.core.ulmer2024 import (
    ANSWER_NATURALLY,
    KEY_PHRASES,
    STAGES,
    choice_prompt,
    last_exchange,
    stage_prompt,
)
from duologue.core.usage import total
from duologue.models import ChatModel, Completion
from duologue.models.answers import Answers
from duologue.models.completion import GREEDY
from duologue_roleplay.graph import GraphPosition
from duologue_roleplay.manager import Cue, Scene, Verdict

# Options beside the edges, whose ids begin with a letter or digit: none of them, and an answer that says neither.
NONE_OF_THEM, UNREADABLE = "-", "?"

# "3", "3.", "Number 3", "None of the above"; one token for the stage, as in the paper.
_CHOICE_TOKENS, _STAGE_TOKENS = 8, 1
_NUMBER = re.compile(r"\b[0-9]{1,3}\b")  # not that of a code, such as HP1
_WORD = re.compile(r"[a-z]{2,}")


class PaperManager:
    """First whether the dialogue is over (key phrases, then the end detector), then which reply it was."""

    def __init__(self, client: ChatModel) -> None:
        self._client = client

    def default_model(self, client_model: str) -> str:
        return client_model

    def calibration_of(self, model: str) -> str:
        return ""  # what it answers is taken for certain

    async def weigh(self, scene: Scene) -> tuple[Verdict, Answers]:
        if has_key_phrase(scene.history):
            said = _certain("key_phrase", "yes", ("yes", "no"))
            return Verdict(has_left=True), _answers([said], [])
        asked = [await self._ask(scene, stage_prompt(scene.history), _STAGE_TOKENS)]
        stage = read_stage(asked[0].text)
        if stage.answer == "end" or scene.node is None:
            return Verdict(has_left=stage.answer == "end"), _answers([stage], asked)
        replies = reply_wordings(scene.node, scene.facts)
        asked.append(await self._ask(scene, choice_prompt(scene.history[-1].text, replies.values()), _CHOICE_TOKENS))
        reply = read_choice(asked[1].text, list(replies))
        edge = reply.answer if reply.answer in replies else None
        return Verdict(edge=edge), _answers([stage, reply], asked)

    def recover(self, verdict: Verdict, position: GraphPosition) -> Cue:
        """The paper has no way back: the agent answers as it likes, and the next reply is held to the same node."""
        return Cue(ANSWER_NATURALLY, node="")

    async def _ask(self, scene: Scene, messages: Sequence[Message], max_tokens: int) -> Completion:
        sampling = replace(GREEDY, max_tokens=max_tokens)
        return await self._client.complete(messages, sampling, model=scene.model, caller=scene.caller)


def has_key_phrase(history: Sequence[Utterance]) -> bool:
    """Whether one of the last two utterances says one of the phrases that end a dialogue."""
    said = [turn.text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") for turn in last_exchange(history)]
    return any(phrase in text for phrase in KEY_PHRASES for text in said)


def read_choice(text: str, edges: Sequence[str]) -> Decision:
    """The edge of the first number in `text`; the number after the last edge's, or the word, is none of them."""
    options = (*edges, NONE_OF_THEM, UNREADABLE)
    number = _NUMBER.search(text)
    if number is not None:
        place = int(number[0]) - 1
        return _certain("reply", options[place] if 0 <= place <= len(edges) else UNREADABLE, options)
    return _certain("reply", NONE_OF_THEM if "none" in text.lower() else UNREADABLE, options)


def read_stage(text: str) -> Decision:
    """Start, middle or end. One token may be no more than the beginning of the word."""
    word = _WORD.search(text.lower())
    stage = next((stage for stage in STAGES if word is not None and stage.startswith(word[0])), UNREADABLE)
    return _certain("stage", stage, (*STAGES, UNREADABLE))


def _certain(question: str, answer: str, options: Sequence[str]) -> Decision:
    return Decision(question, answer, {option: float(option == answer) for option in options})


def _answers(decisions: Sequence[Decision], asked: Sequence[Completion]) -> Answers:
    return Answers(
        {decision.question: decision for decision in decisions}, total(completion.usage for completion in asked)
    )
