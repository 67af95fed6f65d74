"""Which metrics there are, what they say in this process, and which ones a query asks for."""

from __future__ import annotations

import re
from functools import cache

from prometheus_client import REGISTRY

from tests.support.requirements import ROOT

_DEFINED = re.compile(r'"(duologue_[a-z_]+)"')
_ASKED = re.compile(r"\bduologue_[a-z_]+")
_TEXT = re.compile(r'"[^"]*"')
_PART_OF_A_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def told(name: str, **labels: str) -> float:
    """What this process tells; 0 for what it does not. Others may have counted too: compare with before."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


@cache
def defined() -> frozenset[str]:
    """Names in the code of the services and their library."""
    folders = (ROOT / "libs/duologue/src", *ROOT.glob("services/*/src"))
    files = (file for folder in folders for file in folder.rglob("*.py"))
    return frozenset(name for file in files for name in _DEFINED.findall(file.read_text()))


def asked_for(query: str) -> set[str]:
    """Names of ours in a query, a histogram's by its own name."""
    return {_PART_OF_A_HISTOGRAM.sub("", name) for name in _ASKED.findall(_TEXT.sub('""', query))}
