"""YAML text and JSON lines that remember on which line everything stands, so that errors can name it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from duologue.core.problems import InvalidInput, Problem, did_you_mean

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_MAX_CHARACTERS = 1_000_000
# Far more than any file of ours has; the time that the scanner takes grows with the square of it.
_MAX_DEPTH = 50
_OPENS = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSES = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
# What anybody takes for a number. YAML 1.1 also takes 0123 (octal), 10:30 (sexagesimal) and 1_000 for numbers.
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.(inf|nan|Inf|NaN|INF|NAN))")

# What pydantic says of Python types, in the words of a file; by its kind of error.
_WORDING = {
    "dict_type": "should be a mapping",
    "list_type": "should be a list",
    "literal_error": "should be {expected}",
    "model_attributes_type": "should be a mapping of fields",
    "model_type": "should be a mapping of fields",
    "string_type": "should be text: put it in quotes",
    "too_short": "needs at least {min_length}",
    "tuple_type": "should be a list",
    "union_tag_invalid": "{discriminator} is {tag!r}, which is none of {expected_tags}",
    "union_tag_not_found": "{discriminator} is missing",
}


@dataclass(frozen=True)
class Source:
    """Parsed YAML: the plain `data`, and the line (from 1) of every key and list item by its path."""

    file: str
    data: Any
    lines: dict[Path, int]

    def line(self, path: Sequence[str | int]) -> int:
        """The line of `path`, or of its closest parent that has one."""
        at = tuple(path)
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)

    def problem(self, path: Sequence[str | int], message: str, fix: str = "") -> Problem:
        return Problem(self.file, self.line(path), message, fix)


def parse_yaml(text: str, file: str) -> Source:
    """Parse one YAML document of plain values.

    Raises `InvalidInput` for YAML that is broken, repeats a key, or uses tags and aliases.
    """
    if len(text) > _MAX_CHARACTERS:
        raise InvalidInput([Problem(file, 0, f"the file has more than {_MAX_CHARACTERS:,} characters")])
    try:
        _check_tokens(text, file)
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            builder = _Builder(file, loader)
            data = builder.build(root, ()) if root is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InvalidInput([Problem(file, line, f"not valid YAML: {error.problem}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput([Problem(file, 0, f"not valid YAML: {error}")]) from None
    if builder.problems:
        raise InvalidInput(builder.problems)
    return Source(file, data, builder.lines)


def _check_tokens(text: str, file: str) -> None:
    """Refuse what our files don't need, before anything is built from it."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, (yaml.AliasToken, yaml.TagToken)):
            what = "aliases (*name)" if isinstance(token, yaml.AliasToken) else "tags (!name)"
            raise InvalidInput([Problem(file, line, f"YAML {what} are not supported", "Write the value out.")])
        depth += isinstance(token, _OPENS) - isinstance(token, _CLOSES)
        if depth > _MAX_DEPTH:
            raise InvalidInput([Problem(file, line, f"nested deeper than {_MAX_DEPTH} levels")])


class _Builder:
    def __init__(self, file: str, loader: yaml.SafeLoader) -> None:
        self.file = file
        self.loader = loader
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        # `yes`, `no`, `on` and `off` are words in dialogues far more often than they are booleans.
        if node.tag == "tag:yaml.org,2002:bool" and node.value.lower() not in ("true", "false"):
            return node.value
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and not _NUMBER.fullmatch(node.value):
            return node.value
        return self.loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in mapping:
                first = self.lines[(*path, key)]
                self.problems.append(
                    Problem(self.file, line, f'"{key}" is defined twice', f"It stands on line {first} too: rename one.")
                )
                continue
            self.lines[(*path, key)] = line
            mapping[key] = self.build(value_node, (*path, key))
        return mapping


def validate(model: type[Model], source: Source) -> Model:
    """Build `model` from a source; raises `InvalidInput` with file, line, field and fix for each error."""
    if not isinstance(source.data, dict):
        first = next(iter(model.model_fields))
        raise InvalidInput([Problem(source.file, 1, "expected a mapping of fields", f"Begin with `{first}:`.")])
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        found = [item for item in error.errors(include_url=False) if not _follows_from_another(source.data, item)]
        raise InvalidInput(_problem_of(model, source, item) for item in found) from None


def parse_json_lines(model: type[Model], text: str, file: str, shape: str) -> list[tuple[int, Model]]:
    """Each line that is not empty, with its number (from 1).

    Raises `InvalidInput` with the mistakes of all lines, and `shape` as how to mend them.
    """
    parsed: list[tuple[int, Model]] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON texts may hold other line separators
        if not line.strip():
            continue
        try:
            parsed.append((number, _parse_json(model, line, file, number)))
        except InvalidInput as error:
            problems.extend(replace(problem, fix=shape) for problem in error.problems)
    if problems:
        raise InvalidInput(problems)
    return parsed


def _parse_json(model: type[Model], line: str, file: str, number: int) -> Model:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput([Problem(file, number, f"not JSON: {getattr(error, 'msg', error)}")]) from None
    if not isinstance(data, dict):
        raise InvalidInput([Problem(file, number, "is not a JSON object")])
    return validate(model, Source(file, data, {(): number}))


def _follows_from_another(data: Any, error: Any) -> bool:
    """A list that holds enough, but for items that have errors of their own."""
    if error["type"] != "too_short":
        return False
    for step in _path_in(data, error["loc"]):
        data = data[step]
    return len(data) >= int(error["ctx"]["min_length"])


def _problem_of(model: type[BaseModel], source: Source, error: Any) -> Problem:
    path = _path_in(source.data, error["loc"])
    field = ".".join(map(str, path)) or "the file"
    if error["type"] == "missing":
        return source.problem(path, f"{field} is missing", f"Add `{path[-1]}:` here.")
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return source.problem(path, f"{field} is not a known field", did_you_mean(str(path[-1]), known))
    value = error.get("input")
    got = f" (got {value!r})" if isinstance(value, (str, int, float, bool)) else ""
    wording = _WORDING.get(error["type"])
    message = wording.format(**error.get("ctx", {})) if wording else str(error["msg"]).removeprefix("Value error, ")
    return source.problem(path, f"{field}: {message}{got}")


def _path_in(data: Any, location: Sequence[str | int]) -> Path:
    """The location without the steps that pydantic adds for union members and keys, which are not in the file."""
    path: list[str | int] = []
    for index, step in enumerate(location):
        if isinstance(data, dict) and step in data:
            data = data[step]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        elif index < len(location) - 1 or step == "[key]":
            continue
        path.append(step)
    return tuple(path)


def _fields_at(annotation: Any, path: Path) -> list[str]:
    """Names of the fields that may stand at `path` below something of this type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _fields_at(arguments[0], path)
    if origin in (Union, UnionType):
        return [name for argument in arguments for name in _fields_at(argument, path)]
    if not path:
        return list(getattr(annotation, "model_fields", {}))
    if origin in (dict, list, tuple):
        return _fields_at(arguments[1] if origin is dict else arguments[0], path[1:])
    field = getattr(annotation, "model_fields", {}).get(path[0])
    return _fields_at(field.annotation, path[1:]) if field is not None else []
