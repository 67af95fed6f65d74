"""The table of figures: shown, and kept in results.json."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

_FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is the value over the baseline's, which was measured in the same run."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None


def keep(part: str, rows: Sequence[Row]) -> None:
    """Replace what results.json has of `part`, with which the names of its rows begin."""
    kept = json.loads(_FILE.read_text()) if _FILE.exists() else []
    others = [row for row in kept if not row["name"].startswith(f"{part}_")]
    rows_ = sorted([*others, *map(asdict, rows)], key=lambda row: str(row["name"]).split("_")[0])
    _FILE.write_text(json.dumps(rows_, indent=2) + "\n")


def show(title: str, rows: Sequence[Row]) -> None:
    table = Table(title=f"{title}, {os.cpu_count()} cores")
    table.add_column("name", no_wrap=True)
    for heading in ("value", "unit", "baseline", "ratio"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for row in rows:
        figures = ("" if figure is None else f"{figure:g}" for figure in (row.baseline, row.ratio))
        table.add_row(row.name, f"{row.value:g}", row.unit, *figures)
    Console().print(table)
