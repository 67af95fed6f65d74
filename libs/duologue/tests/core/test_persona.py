"""Persona files."""

import pytest
from pydantic import ValidationError

from duologue.core.persona import Persona, load_personas
from duologue.core.problems import InvalidInput

SOUND = """\
personas:
  - id: teacher
    character: a retired teacher
    description: I like things explained.
  - id: courier
    character: a bicycle courier
    description: I am in a hurry.
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load_personas(text, "people.yaml")
    return list(map(str, caught.value.problems))


def test_personas_come_in_the_order_of_the_file() -> None:
    teacher, courier = load_personas(SOUND, "people.yaml")
    assert teacher == Persona(id="teacher", character="a retired teacher", description="I like things explained.")
    assert courier.id == "courier"


def test_the_version_is_that_of_the_content() -> None:
    version = load_personas(SOUND)[0].version
    again = "# a comment\n" + SOUND.replace("  - id", "\n  - id")
    assert load_personas(again)[0].version == version
    changes = [("id: teacher", "id: tutor"), ("a retired teacher", "a teacher"), ("I like things", "I hate things")]
    others = {load_personas(SOUND.replace(old, new))[0].version for old, new in changes}
    assert len({version, load_personas(SOUND)[1].version, *others}) == 5


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "id: courier",
            "id: teacher",
            5,
            'persona "teacher" is defined twice\n    It stands on line 2 too: rename one.',
        ),
        ("id: courier", "id: the courier", 5, "personas.1.id: String should match pattern"),
        ("    character: a bicycle courier\n", "", 5, "personas.1.character is missing\n    Add `character:` here."),
        ("a bicycle courier", "' '", 6, "personas.1.character: String should have at least 1 character"),
        ("I am in a hurry.", "12", 7, "personas.1.description: should be text"),
        ("I am in a hurry.", "x\n    mood: y", 8, "personas.1.mood is not a known field"),
        ("personas:\n", "people:\n", 1, "people is not a known field"),
        (SOUND, "personas: []\n", 1, "personas: needs at least 1"),
        (SOUND, "- a\n", 1, "expected a mapping of fields"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, said: str) -> None:
    assert SOUND.count(old) == 1
    found = problems_of(SOUND.replace(old, new))
    assert any(problem.startswith(f"people.yaml:{line}: {said}") for problem in found), found


def test_a_persona_cannot_hold_a_wrong_value() -> None:
    with pytest.raises(ValidationError):
        Persona(id="teacher", character="", description="x")
    with pytest.raises(ValidationError):
        Persona(id="teacher", character="x" * 2001, description="x")
