"""What commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

# A file or a pipe has no width; eighty columns would break every table.
_PIPE_WIDTH = 200

console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Failure(Exception):
    """A command that could not do its work; the message says what to do. `status` is its exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def print_json(document: Any) -> None:
    """One document, with the names of the protos; big integers stay numbers."""
    json.dump(plain(document), sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def plain(value: Any) -> Any:
    """Messages as dictionaries with all their fields, 64-bit integers as numbers rather than strings."""
    if isinstance(value, Message):
        document = MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        return _with_numbers(value, document)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _with_numbers(message: Message, document: dict[str, Any]) -> dict[str, Any]:
    """proto3 JSON writes 64-bit integers as strings, for the sake of JavaScript; our counts are small."""
    for field in message.DESCRIPTOR.fields:
        value = document.get(field.name)
        if value is None:
            continue
        kind: Any = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            item = kind.fields_by_name["value"]
            if item.cpp_type in (item.CPPTYPE_INT64, item.CPPTYPE_UINT64):
                document[field.name] = {key: int(number) for key, number in value.items()}
        elif kind is not None:
            parts = getattr(message, field.name)
            if isinstance(value, list):
                document[field.name] = [_with_numbers(part, item) for part, item in zip(parts, value, strict=True)]
            else:
                document[field.name] = _with_numbers(parts, value)
        elif field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            document[field.name] = [int(item) for item in value] if isinstance(value, list) else int(value)
    return document


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold", min_width=12)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def number(value: float | None) -> str:
    """Three digits, without needless zeros; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def enum_name(message: Message, field: str) -> str:
    """The value of an enum field as people say it: CAMPAIGN_STATE_RUNNING of `state` is "running"."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    enum: Any = descriptor.enum_type
    name = enum.values_by_number[getattr(message, field)].name
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(name.removeprefix(prefix).lower())
