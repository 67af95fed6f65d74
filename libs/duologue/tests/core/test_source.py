"""YAML that remembers its lines, and refuses what our files don't need."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from duologue.core.problems import InvalidInput, did_you_mean
from duologue.core.source import Path, parse_yaml, validate

TEXTS = st.text(alphabet=st.characters(codec="utf-8"))
DOCUMENTS = st.dictionaries(
    TEXTS,
    st.recursive(
        TEXTS | st.booleans() | st.none() | st.integers() | st.floats(allow_nan=False),
        lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXTS, part, max_size=4),
        max_leaves=12,
    ),
    max_size=4,
)


class _Plain(yaml.SafeDumper):
    """Writes values out instead of naming them with aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def written(data: Any, **style: Any) -> str:
    return yaml.dump(data, Dumper=_Plain, sort_keys=False, **style)


def refused(text: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse_yaml(text, "file.yaml")
    return caught.value


@settings(max_examples=50)
@given(DOCUMENTS, st.booleans())
def test_any_document_comes_through(data: dict[str, Any], flow: bool) -> None:
    assert parse_yaml(written(data, default_flow_style=flow), "file.yaml").data == data


@given(
    st.recursive(
        st.integers(0, 9), lambda part: st.dictionaries(st.sampled_from("abcdef"), part, min_size=1), max_leaves=20
    )
)
def test_the_line_of_every_key_is_the_one_that_it_stands_on(data: Any) -> None:
    text = written({"root": data})
    source = parse_yaml(text, "file.yaml")
    lines = text.splitlines()

    def check(part: Any, path: Path) -> None:
        line = lines[source.line(path) - 1]
        assert line.startswith("  " * (len(path) - 1) + f"{path[-1]}:")
        if isinstance(part, dict):
            for key, below in part.items():
                check(below, (*path, key))

    check(data, ("root",))


def test_what_has_no_line_has_that_of_its_parent() -> None:
    source = parse_yaml("a:\n  b:\n    - one\n    - two\n", "file.yaml")
    assert source.line(("a", "b", 1)) == 4
    assert source.line(("a", "b", 7, "c")) == 2
    assert source.line(("a", "missing")) == 1
    assert source.line(("missing",)) == 1
    assert str(source.problem(("a", "b", 0), "is wrong", "Mend it.")) == "file.yaml:3: is wrong\n    Mend it."


def test_words_that_yaml_takes_for_booleans_stay_words() -> None:
    text = "yes: No\nno: yes\non: off\nOff: ON\nlist: [y, n, YES]\nreal: [true, False, TRUE]\n"
    assert parse_yaml(text, "file.yaml").data == {
        "yes": "No",
        "no": "yes",
        "on": "off",
        "Off": "ON",
        "list": ["y", "n", "YES"],
        "real": [True, False, True],
    }


def test_dates_stay_words() -> None:
    assert parse_yaml("a: 2026-11-22\nb: 2024-13-45\n", "file.yaml").data == {"a": "2026-11-22", "b": "2024-13-45"}


def test_only_what_anybody_takes_for_a_number_is_one() -> None:
    text = "code: 0123\ntime: 10:30\nthousand: 1_000\nhex: 0x1F\nbits: 0b_\nint: -12\nfloat: 1.5e-3\nzero: 0\n"
    assert parse_yaml(text, "file.yaml").data == {
        "code": "0123",
        "time": "10:30",
        "thousand": "1_000",
        "hex": "0x1F",
        "bits": "0b_",
        "int": -12,
        "float": 0.0015,
        "zero": 0,
    }


def test_every_key_that_comes_twice_is_named_with_both_lines() -> None:
    problems = refused("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\nl:\n- x: 1\n  x: 2\n").problems
    assert [(problem.line, problem.message, problem.fix) for problem in problems] == [
        (5, '"c" is defined twice', "It stands on line 3 too: rename one."),
        (6, '"a" is defined twice', "It stands on line 1 too: rename one."),
        (9, '"x" is defined twice', "It stands on line 8 too: rename one."),
    ]


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: &x [*x]\n", "a: &x {b: 1}\nc:\n  <<: *x\n"])
def test_aliases_are_refused(text: str) -> None:
    assert "YAML aliases (*name) are not supported" in str(refused(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 'b", "file.yaml:1: not valid YAML"),
        ("a: 1\nb: [1, 2\n", "file.yaml:3: not valid YAML"),
        ("a: 1\n\tb: 2\n", "file.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "file.yaml:2: not valid YAML"),
        ("a: \x00", "file.yaml: not valid YAML"),
    ],
    ids=["quote", "list", "tab", "two documents", "nul"],
)
def test_what_is_not_yaml_is_said(text: str, said: str) -> None:
    assert str(refused(text)).startswith(said)


@given(st.text() | st.text(alphabet="{}[]:,-'\"#&*!|>?%@` \nab01~."))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse_yaml(text, "file.yaml")


@pytest.mark.parametrize("tagged", ["!foo x", "!foo {b: 1}", "!foo [1]", "!!set {b, c}", "!!binary aGk=", "!!int x"])
def test_tags_are_refused_with_their_line(tagged: str) -> None:
    assert str(refused(f"a: 1\nb: {tagged}\n")).startswith("file.yaml:2: YAML tags")


def test_a_huge_file_is_refused() -> None:
    assert "more than 1,000,000 characters" in str(refused("a: [" + "[" * 50_000_000))


def test_deep_nesting_is_refused_before_it_is_read_to_its_end() -> None:
    assert str(refused("a:\n  b: " + "[" * 900_000)).startswith("file.yaml:2: nested deeper than 50 levels")
    assert parse_yaml("[" * 50 + "]" * 50, "file.yaml").data


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: str = "red"
    size: int = Field(1, ge=0)
    finish: Literal["matt", "gloss"] = "matt"


Size = Annotated[str, Field(max_length=3)]


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    part: Part = Part()
    parts: tuple[Part, ...] = ()
    sizes: dict[Size, int] = {}
    few: tuple[Part, ...] = Field((Part(),), min_length=1)


def problems_of(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidInput) as caught:
        validate(Whole, parse_yaml(text, "file.yaml"))
    return [(problem.line, problem.message, problem.fix) for problem in caught.value.problems]


def test_unknown_fields_are_answered_with_the_closest_known_one() -> None:
    assert problems_of("nam: x\nname: x\npart:\n  color: blue\n  weight: 1\n") == [
        (1, "nam is not a known field", 'Did you mean "name"?'),
        (4, "part.color is not a known field", 'Did you mean "colour"?'),
        (5, "part.weight is not a known field", "Use one of: colour, finish, size."),
    ]


def test_errors_are_in_the_words_of_a_file() -> None:
    assert problems_of("name: 5\npart: red\nparts: {a: 1}\nsizes: {toobig: 1}\nfew: [{size: -1}]\n") == [
        (1, "name: should be text: put it in quotes (got 5)", ""),
        (2, "part: should be a mapping of fields (got 'red')", ""),
        (3, "parts: should be a list", ""),
        (4, "sizes.toobig: String should have at most 3 characters (got 'toobig')", ""),
        (5, "few.0.size: Input should be greater than or equal to 0 (got -1)", ""),
    ]
    assert problems_of("name: x\npart: {finish: rough}\n") == [
        (2, "part.finish: should be 'matt' or 'gloss' (got 'rough')", "")
    ]
    assert problems_of("name: x\nfew: []\n") == [(2, "few: needs at least 1", "")]


def test_missing_fields_and_wrong_values_are_named_with_their_lines() -> None:
    assert problems_of("part:\n  size: -1\nparts:\n  - size: 1\n  - size: big\n") == [
        (1, "name is missing", "Add `name:` here."),
        (2, "part.size: Input should be greater than or equal to 0 (got -1)", ""),
        (5, "parts.1.size: Input should be a valid integer, unable to parse string as an integer (got 'big')", ""),
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "word\n", "5\n"])
def test_what_is_no_mapping_is_said(text: str) -> None:
    ((line, message, _),) = problems_of(text)
    assert (line, message) == (1, "expected a mapping of fields")


def test_the_closest_word_is_meant_or_all_are_named() -> None:
    assert did_you_mean("wrkflow", ["workflow", "persona"]) == 'Did you mean "workflow"?'
    assert did_you_mean("x", ["workflow", "persona"]) == "Use one of: persona, workflow."
    assert did_you_mean("x", []) == ""
