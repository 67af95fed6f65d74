"""Who the client is."""

from __future__ import annotations

import hashlib
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from duologue.core.problems import InvalidInput, Problem
from duologue.core.source import parse_yaml, validate
from duologue.core.workflow import Identifier, Text


class Persona(BaseModel):
    """A client character with a first-person description (Ulmer et al. 2024, section 3.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Identifier
    character: Text = Field(description='Completes "you are ...", such as "a retired teacher".')
    description: Text = Field(description="First-person description, a few sentences.")

    @cached_property
    def version(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class _PersonaFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    personas: list[Persona] = Field(min_length=1)


def load_personas(text: str, file: str = "<personas>") -> tuple[Persona, ...]:
    """The personas of a file, in order. Raises `InvalidInput` with every mistake and its line."""
    source = parse_yaml(text, file)
    personas = validate(_PersonaFile, source).personas
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for index, persona in enumerate(personas):
        line = source.line(("personas", index, "id"))
        if persona.id in lines:
            fix = f"It stands on line {lines[persona.id]} too: rename one."
            problems.append(Problem(file, line, f'persona "{persona.id}" is defined twice', fix))
        lines.setdefault(persona.id, line)
    if problems:
        raise InvalidInput(problems)
    return tuple(personas)
