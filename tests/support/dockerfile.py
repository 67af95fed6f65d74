"""A Dockerfile as its instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """`word` as COPY, `text` what follows it, on one line."""

    word: str
    text: str


def instructions(file: Path) -> list[Instruction]:
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines() if line.strip()]


def last_stage(file: Path) -> list[Instruction]:
    """What the image itself is made of."""
    found = instructions(file)
    start = max(place for place, instruction in enumerate(found) if instruction.word == "FROM")
    return found[start:]


def labels(file: Path) -> dict[str, str]:
    (label,) = [instruction.text for instruction in last_stage(file) if instruction.word == "LABEL"]
    return dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', label))
