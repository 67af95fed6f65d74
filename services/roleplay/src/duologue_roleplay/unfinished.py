"""Dialogues that broke off: what the models had answered is kept, so that the next try goes on from there.

A dialogue follows from its plan and from what the models answer. With the answers of before at hand, playing it again
comes to where it ended without asking anybody. They are in memory, of this process: in another one, or after a restart,
a dialogue that was put off begins anew.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from duologue.models.answers import Answers
from duologue_roleplay.manager import Verdict
from duologue_roleplay.utterance import Spoken

if TYPE_CHECKING:
    from duologue_roleplay.self_talk import Plan

# Some ten kilobytes each. What was put off earlier begins anew.
_MOST = 2000


@dataclass(slots=True)
class Heard:
    """What models have answered in a dialogue, by the number of turns before it."""

    spoken: dict[int, Spoken] = field(default_factory=dict)
    weighed: dict[int, tuple[Verdict, Answers]] = field(default_factory=dict)


class Unfinished:
    """The last `_MOST` dialogues that broke off."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Plan, Heard]] = OrderedDict()

    def take(self, plan: Plan) -> Heard:
        """What was heard when this very plan was played before, if it is still there."""
        before, heard = self._kept.pop(plan.dialogue_id, (plan, Heard()))
        return heard if before == plan else Heard()

    def keep(self, plan: Plan, heard: Heard) -> None:
        if plan.deadline is not None:  # somebody asked for it and has gone away
            return
        self._kept[plan.dialogue_id] = plan, heard
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
