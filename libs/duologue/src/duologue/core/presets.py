"""What a preset decides: how client and agent are asked, and the figures that a campaign file leaves open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duologue.core import prompts, ulmer2024
from duologue.core.dialogue import Preset
from duologue.core.persona import Persona
from duologue.core.prompts import Message
from duologue.core.scores import Utterance
from duologue.core.workflow import Intention, Workflow


@dataclass(frozen=True, slots=True)
class Prompts:
    """How client and agent are asked for their next turn; see `core.prompts` for what the arguments are."""

    version: str
    agent: Callable[[Workflow, Sequence[Utterance], str], list[Message]]
    client: Callable[[Workflow, Persona, Intention, Sequence[Utterance]], list[Message]]


PROMPTS: Mapping[Preset, Prompts] = {
    Preset.DUOLOGUE: Prompts(prompts.PROMPTS_VERSION, prompts.agent_prompt, prompts.client_prompt),
    Preset.ULMER2024: Prompts(ulmer2024.PROMPTS_VERSION, ulmer2024.agent_prompt, ulmer2024.client_prompt),
}
# Fields of a campaign file, by section. Duologue's own defaults stand in the spec.
DEFAULTS: Mapping[Preset, Mapping[str, Any]] = {Preset.ULMER2024: ulmer2024.DEFAULTS}


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a campaign file with its preset's figures where it gives none of its own.

    Section by section, field by field; a list such as `filters` is taken whole. What is wrong with the file is left as
    it is, for whoever checks it.
    """
    preset = next((preset for preset in DEFAULTS if preset == given.get("preset")), None)
    merged = dict(given)
    for name, default in DEFAULTS[preset].items() if preset else ():
        own = given.get(name, {} if isinstance(default, dict) else default)
        merged[name] = {**default, **own} if isinstance(default, dict) and isinstance(own, Mapping) else own
    return merged
