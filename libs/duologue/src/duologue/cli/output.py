"""What commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

# A file or a pipe has no width; eighty columns would break every table.
_PIPE_WIDTH = 200

_LEAST_OF_LAST_COLUMN = 20
_GAP = 2
_WORD_END = re.compile(r"(?<=\S)\s+")
# Line ends and tabs are spaces; other controls could steer the terminal, and half a surrogate pair has no bytes.
_UNPRINTABLE = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
_UNPRINTABLE |= {ord(mark): " " for mark in "\t\n\v\f\r\x85\u2028\u2029"}

console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
errors = Console(stderr=True, highlight=False, emoji=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Failure(Exception):
    """A command that could not do its work; the message says what to do. `status` is its exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def printable(text: str) -> str:
    """Text of models and of people's files, on one line and without what steers a terminal."""
    return text.translate(_UNPRINTABLE)


def literal(text: str) -> str:
    """The same within markup."""
    return escape(printable(text))


def complain(message: str) -> None:
    """Say on stderr what is wrong; the message has lines of its own."""
    errors.print("\n".join(map(printable, message.split("\n"))), markup=False, soft_wrap=True)


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
    """proto3 JSON writes 64-bit integers as strings, for the sake of JavaScript; our counts are small. Maps sorted."""
    for field in message.DESCRIPTOR.fields:
        value = document.get(field.name)
        if value is None:
            continue
        kind: Any = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            item = kind.fields_by_name["value"]
            whole = item.cpp_type in (item.CPPTYPE_INT64, item.CPPTYPE_UINT64)
            # Maps come in another order in every process.
            document[field.name] = {key: int(value[key]) if whole else value[key] for key in sorted(value)}
        elif kind is not None:
            parts = getattr(message, field.name)
            if isinstance(value, list):
                document[field.name] = [_with_numbers(part, item) for part, item in zip(parts, value, strict=True)]
            else:
                document[field.name] = _with_numbers(parts, value)
        elif field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            document[field.name] = [int(item) for item in value] if isinstance(value, list) else int(value)
    return document


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """A table with all its columns, however narrow the terminal.

    Cells of several words fold between them, the last column anywhere; other words, as ids, stay whole to be pasted.
    """
    if not rows:
        console.print(printable(f"No {title[0].lower()}{title[1:]}."), markup=False)
        return
    cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
    table = Table(title=literal(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    texts = list(zip(columns, *([cell.plain for cell in row] for row in cells), strict=True))
    for column, width in zip(columns, _widths(texts, console.width), strict=True):
        table.add_column(column, min_width=width, max_width=width, overflow="fold")
    for row in cells:
        table.add_row(*row)
    console.print(table, crop=False)


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Widths for columns of these texts. The widest gives way first; rich would take from the ids too."""
    widths = [max(map(cell_len, texts)) for texts in columns]
    least = [max(cell_len(word) for text in texts for word in _WORD_END.split(text)) for texts in columns]
    least[-1] = min(least[-1], _LEAST_OF_LAST_COLUMN)
    for _ in range(sum(widths) + _GAP * (len(widths) - 1) - room):
        foldable = [index for index, width in enumerate(widths) if width > least[index]]
        if not foldable:
            break
        widths[max(foldable, key=widths.__getitem__)] -= 1
    return widths


def minute(rfc3339: str) -> str:
    """A time as tables show it, in UTC."""
    return rfc3339[:16].replace("T", " ")


def number(value: float | None) -> str:
    """Three digits, without needless zeros; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def enum_name(message: Message, field: str) -> str:
    """The value of an enum field as people say it: CAMPAIGN_STATE_RUNNING of `state` is "running".

    One that only newer versions know is its number.
    """
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    enum: Any = descriptor.enum_type
    number = getattr(message, field)
    if number not in enum.values_by_number:
        return str(number)
    name = enum.values_by_number[number].name
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(name.removeprefix(prefix).lower())
