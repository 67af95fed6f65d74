"""A model's figures before and after calibration, and its reliability diagram, in a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from duologue.cli.output import console, print_table
from duologue.core.fitting import Fit
from duologue.core.judgements import CONFIDENCE, Bin, Figure, Judgements, figures, reliability

_WIDTH = 30
_NAMES = {"choice": "Choices", "noul": "Yes or no (noul)"}


def print_fit(fit: Fit) -> None:
    """The figures of one type of question, and how often it was right at each confidence."""
    if not len(fit.before):
        return
    before = figures(fit.before)
    after = figures(fit.after) if fit.after is not None else {}
    found = f"temperature {fit.temperature:g}" if fit.temperature is not None else "no temperature"
    console.print(
        f"[bold]{_NAMES[fit.question]}[/]: {len(fit.before)} answers about {fit.before.states} states, {found}",
        soft_wrap=True,
    )
    rows = [(name, _told(figure), *([_told(after[name])] if after else [])) for name, figure in before.items()]
    columns = ("metric", "before", *(["after, held out"] if after else []))
    print_table(f"With {CONFIDENCE:.0%} intervals", columns, rows)
    if fit.remark:
        console.print(f"[yellow]{fit.remark}[/]", soft_wrap=True)
    console.print(_diagram(fit.before, "before"), crop=False)
    if fit.after is not None:
        console.print(_diagram(fit.after, "after, held out"), crop=False)
    console.print()


def _told(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    if figure.low is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _diagram(judgements: Judgements, when: str) -> Table:
    """A bar for each confidence, as long as the share of answers that were right; the mark is where it should end."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("confidence", "answers", "right"):
        table.add_column(column, justify="right")
    table.add_column(f"{when}: # right, | sure", min_width=_WIDTH + 1)
    for each in reliability(judgements):
        table.add_row(f"{each.low:.1f}-{each.high:.1f}", str(each.count), f"{each.right:.2f}", _bar(each))
    return table


def _bar(each: Bin) -> Text:
    """Red where the model was surer than right, by a tenth or more."""
    full, mark = round(each.right * _WIDTH), round(each.confidence * _WIDTH)
    cells = ["#" if place < full else " " for place in range(_WIDTH + 1)]
    cells[mark] = "|"
    return Text("".join(cells).rstrip(), style="red" if each.gap >= 0.1 else "green")
