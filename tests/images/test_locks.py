"""What the images hold is locked, is what the services need, and is what the tests ran with."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.support.images import SERVICES
from tests.support.requirements import ROOT

REQUIREMENTS = ROOT / "requirements"
_PIN = re.compile(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
_NAME = re.compile(r"^[\w-]+")
# Extras of commands and processes that run elsewhere.
_NOT_IN_IMAGES = {"calibrate", "job"}
_TORCH = {"accelerate", "peft", "torch", "transformers", "trl"}


def pins(file: str) -> set[tuple[str, str]]:
    """Names and versions. One name may have several, for several Pythons."""
    return set(_PIN.findall((REQUIREMENTS / file).read_text()))


def names(file: str) -> set[str]:
    return {name for name, _ in pins(file)}


@pytest.mark.parametrize("file", ["services.txt", "tools.txt", "ml.txt"])
def test_every_package_of_an_image_is_locked_with_hashes(file: str) -> None:
    blocks = re.split(r"\n(?=\S)", (REQUIREMENTS / file).read_text().strip())
    assert len(blocks) > 5
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


def test_an_image_holds_what_the_tests_ran_with_and_none_of_the_tests() -> None:
    assert pins("services.txt") - pins("slim.txt") == set()
    assert {"pytest", "ruff", "mypy", "hatchling", "uv", "matplotlib"} & names("services.txt") == set()


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_all_that_its_service_asks_for(service: str) -> None:
    asked: set[str] = set()
    for project in (_project("libs/duologue"), _project(f"services/{service}")):
        extras = project.get("optional-dependencies", {})
        asked.update(project["dependencies"], *(extras[name] for name in extras if name not in _NOT_IN_IMAGES))
    wanted = {_name(requirement) for requirement in asked} - {"duologue"}
    assert wanted - names("services.txt") - _TORCH == set()


def _project(folder: str) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return project


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    assert found
    return found[0].lower()
