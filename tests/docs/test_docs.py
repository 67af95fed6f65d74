"""Docs say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from duologue.core.workflow_file import load_workflow

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("services/*/README.md"),
    *ROOT.glob("examples/*.md"),
]
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def test_the_reference_is_generated_from_the_code_as_it_is(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs/generate.py", tmp_path], check=True)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_text() for file in (ROOT / "docs/reference").iterdir()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_workflow_in_the_concepts_is_a_workflow() -> None:
    (block,) = _BLOCK.findall((ROOT / "docs/concepts.md").read_text())
    assert load_workflow(block).id == "parcel_pickup"


def test_every_word_of_the_glossary_stands_once_and_in_order() -> None:
    words = re.findall(r"^\| ([a-z, ]+) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert words[1:] == sorted(set(words[1:]))
