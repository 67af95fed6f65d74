"""What a test needs of the machine: missing, it is skipped with the reason; where CI=true, that is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from duologue.cli.local.layout import ml_python

ROOT = Path(__file__).parents[2]
STAR = ROOT.parent / "shared/data/star"
TGI = ROOT.parent / "shared/data/tgi/responses.jsonl"


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have this: {reason}")
    pytest.skip(reason)


def require_ml() -> Path:
    """The interpreter with torch."""
    python = ml_python()
    if python is None:
        missing("there is no environment with torch: run `make setup`")
    return python


def require_star() -> Path:
    """The folder of the STAR data set, which is no part of the product."""
    if not STAR.is_dir():
        missing("the STAR data set does not lie beside the repository, in ../shared/data/star")
    return STAR


def require_tgi() -> Path:
    """What a real TGI answered, a record a line, which is no part of the product."""
    if not TGI.is_file():
        missing("the answers of a real TGI do not lie beside the repository, in ../shared/data/tgi")
    return TGI
