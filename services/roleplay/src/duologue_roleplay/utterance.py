"""One utterance: how it is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from duologue.core.dialogue import Role, Turn
from duologue.core.prompts import STOP, Message
from duologue.core.usage import NOTHING, Usage
from duologue.models import Caller, ChatModel, Sampling
from duologue_roleplay.repair import repair

# An utterance of which nothing is left after repair is asked for once more, with another seed.
_TRIES = 2


class Ask(NamedTuple):
    """A request for an utterance. Two that are equal are answered alike, as far as the server keeps to seeds."""

    speaker: Role
    model: str
    messages: Sequence[Message]
    sampling: Sampling
    seed: int
    caller: Caller


@dataclass(slots=True)
class Spoken:
    """What a model said, mended: "" when nothing of it was usable, twice.

    `usage` is that of the try that it came of, `wasted` that of the others.
    """

    text: str = ""
    repairs: tuple[str, ...] = ()
    usage: Usage = NOTHING
    wasted: Usage = NOTHING

    @property
    def whole_usage(self) -> Usage:
        return self.usage + self.wasted


def bearing(turn: Turn, usage: Usage) -> Turn:
    """`turn` with what was used for something else: for what was asked for and not said, or decided about it."""
    return replace(
        turn,
        prompt_tokens=turn.prompt_tokens + usage.prompt_tokens,
        completion_tokens=turn.completion_tokens + usage.completion_tokens,
        seconds=turn.seconds + usage.seconds,
    )


async def speak(chat: ChatModel, ask: Ask) -> Spoken:
    """Have `ask` answered."""
    spoken = Spoken()
    for attempt in range(_TRIES):
        completion = await chat.complete(
            ask.messages,
            ask.sampling,
            model=ask.model,
            stop=STOP[ask.speaker],
            seed=(ask.seed + attempt) % 2**31,
            caller=ask.caller,
        )
        spoken.text, repairs = repair(completion.text, ask.speaker, is_cut=completion.is_cut)
        spoken.repairs += repairs
        if spoken.text:
            spoken.usage = completion.usage
            break
        spoken.wasted += completion.usage
        spoken.repairs += ("empty",)
    return spoken
