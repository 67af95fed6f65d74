"""Draws the dashboards from their queries, where there is no Grafana to look at.

`python deploy/grafana/render.py PROMETHEUS_URL MINUTES [FOLDER]`: the last minutes, by default into docs/dashboards.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

HERE = Path(__file__).parent
_POINTS = 240
_RATE_SECONDS = 60
_COLUMNS = 24
_COLUMN_INCHES, _ROW_INCHES = 0.72, 0.36
_TITLE_INCHES = 0.5
_MOST_SERIES = 10
_COLOURS = (
    "#2a6f97",
    "#c44e52",
    "#55a868",
    "#dd8452",
    "#8172b3",
    "#937860",
    "#da8bc3",
    "#8c8c8c",
    "#ccb974",
    "#64b5cd",
)


@dataclass(frozen=True)
class Series:
    """One line of a panel; `values` has a NaN where there is nothing."""

    name: str
    times: np.ndarray
    values: np.ndarray

    @property
    def last(self) -> float:
        numbers = self.values[~np.isnan(self.values)]
        return float(numbers[-1]) if len(numbers) else float("nan")


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the time to look at."""

    url: str
    start: float
    end: float

    def series(self, target: dict[str, Any]) -> list[Series]:
        step = max((self.end - self.start) / _POINTS, 1.0)
        arguments = {"query": self._expand(target["expr"]), "start": self.start, "end": self.end, "step": step}
        url = f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url) as answer:  # noqa: S310
            found = json.load(answer)["data"]["result"]
        times = np.arange(self.start, self.end + step / 2, step)
        return [Series(_named(target, each["metric"]), *_filled(times, step, each["values"])) for each in found]

    def _expand(self, expr: str) -> str:
        seconds = round(self.end - self.start)
        chosen = {
            "$__range_s": str(seconds),
            "$__range": f"{seconds}s",
            "$__rate_interval": f"{_RATE_SECONDS}s",
            "$gpus": "1",
        }
        for name, value in {**chosen, "$namespace": ".*", "$job": ".*", "$agent": ".*"}.items():
            expr = expr.replace(name, value)
        return expr


def main(url: str, minutes: float, folder: Path) -> None:
    source = Source(url, time.time() - minutes * 60, time.time())
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((HERE / "dashboards").glob("*.json")):
        draw(json.loads(file.read_text()), source, folder / f"{file.stem}.png")


def draw(board: dict[str, Any], source: Source, file: Path) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    rows = max(place["y"] + place["h"] for place in places)
    size = (_COLUMNS * _COLUMN_INCHES, rows * _ROW_INCHES + _TITLE_INCHES)
    figure = Figure(figsize=size, facecolor="#ebecec")
    figure.suptitle(board["title"], x=0.01, y=1 - 0.1 / size[1], ha="left", va="top", fontsize=13, weight="bold")
    scale = rows * _ROW_INCHES / size[1] / rows
    for panel, place in zip(board["panels"], places, strict=True):
        left, below = _margins(panel["type"], place["w"])
        bottom = 1 - _TITLE_INCHES / size[1] - (place["y"] + place["h"]) * scale
        card = ((place["x"] + 0.08) / _COLUMNS, bottom + 0.08 * scale)
        width, height = (place["w"] - 0.16) / _COLUMNS, (place["h"] - 0.16) * scale
        figure.add_artist(Rectangle(card, width, height, color="white", transform=figure.transFigure, zorder=-1))
        ax = figure.add_axes(
            (
                (place["x"] + left) / _COLUMNS,
                bottom + below * scale,
                (place["w"] - left - 0.5) / _COLUMNS,
                (place["h"] - below - 1.1) * scale,
            )
        )
        draw_panel(panel, [each for target in panel["targets"] for each in source.series(target)], source, ax)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def draw_panel(panel: dict[str, Any], series: list[Series], source: Source, ax: Axes) -> None:
    ax.set_title(panel["title"], fontsize=9, weight="bold", loc="left" if panel["type"] == "timeseries" else "center")
    defaults = panel["fieldConfig"]["defaults"]
    if not series:
        ax.text(0.5, 0.5, "No data", ha="center", va="center", color="0.5", transform=ax.transAxes)
        ax.set_axis_off()
        return
    drawing = {"stat": _draw_stat, "bargauge": _draw_bars, "heatmap": _draw_heatmap, "timeseries": _draw_lines}
    drawing[panel["type"]](series, defaults, ax)
    if panel["type"] in ("timeseries", "heatmap"):
        ax.set_xlim(_dates(np.array([source.start, source.end])))
        ax.xaxis.set_major_locator(AutoDateLocator(maxticks=7))
        ax.xaxis.set_major_formatter(DateFormatter("%H:%M"))


def _draw_stat(series: list[Series], defaults: dict[str, Any], ax: Axes) -> None:
    text = "\n".join(_shown(each.last, defaults) for each in series)
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=20, color="#2a6f97", transform=ax.transAxes)
    ax.text(0.5, 0.05, series[0].name, ha="center", fontsize=8, color="0.4", transform=ax.transAxes)
    ax.set_axis_off()


def _draw_bars(series: list[Series], defaults: dict[str, Any], ax: Axes) -> None:
    ordered = sorted(series, key=lambda each: each.name, reverse=True)
    values = [float(np.nan_to_num(each.last)) for each in ordered]
    ax.barh(range(len(ordered)), values, color=_COLOURS[0], height=0.7)
    ax.set_yticks(range(len(ordered)), [_short(each.name) for each in ordered], fontsize=6.5)
    for place, value in enumerate(values):
        ax.text(max(value, 0), place, f" {_shown(value, defaults)}", va="center", fontsize=6.5)
    ax.set_ylim(-0.6, max(len(ordered), 4) - 0.4)
    ax.set_xlim(min(*values, 0.0) * 1.2, max(*values, 0.0) * 1.2 or 1.0)
    _decorate(ax, defaults, vertical=False)


def _draw_lines(series: list[Series], defaults: dict[str, Any], ax: Axes) -> None:
    is_stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    lines = sorted(series, key=lambda each: each.name)
    dates = _dates(lines[0].times)
    if is_stacked:
        values = np.nan_to_num(np.array([each.values for each in lines]))
        ax.stackplot(dates, values, labels=[_short(each.name) for each in lines], colors=_COLOURS, alpha=0.6)
    else:
        for place, each in enumerate(lines[:_MOST_SERIES]):
            ax.plot(dates, each.values, label=_short(each.name), color=_COLOURS[place % len(_COLOURS)], linewidth=1)
    ax.legend(loc="upper left", fontsize=5.5, frameon=True, framealpha=0.6, ncols=1 + (len(lines) > 5))
    _, top = ax.get_ylim()
    lowest, highest = (float(each([np.nan_to_num(line.values) for line in lines])) for each in (np.min, np.max))
    ax.set_ylim(min(lowest * 1.1, 0), top * 1.35 if highest > 0 else 1)
    _decorate(ax, defaults, vertical=True)


def _draw_heatmap(series: list[Series], defaults: dict[str, Any], ax: Axes) -> None:
    ordered = sorted(series, key=lambda each: float(each.name))
    counts = np.nan_to_num(np.diff(np.array([each.values for each in ordered]), axis=0, prepend=0))
    dates = _dates(ordered[0].times)
    ax.pcolormesh(dates, range(len(ordered)), counts, cmap="Blues", shading="nearest")
    ax.set_yticks(range(len(ordered)), [each.name.replace("+Inf", "") for each in ordered], fontsize=6.5)
    ax.tick_params(labelsize=6.5)


def _decorate(ax: Axes, defaults: dict[str, Any], *, vertical: bool) -> None:
    formatter = FuncFormatter(lambda value, _: _shown(value, defaults))
    (ax.yaxis if vertical else ax.xaxis).set_major_formatter(formatter)
    if defaults.get("decimals") == 0 and defaults["unit"] == "short":
        (ax.yaxis if vertical else ax.xaxis).set_major_locator(MaxNLocator(5, integer=True))
    if "max" in defaults:
        (ax.set_ylim if vertical else ax.set_xlim)(0, defaults["max"] * (1.4 if vertical else 1.15))
    ax.tick_params(labelsize=6.5)
    ax.grid(alpha=0.25, axis="y" if vertical else "x")
    ax.spines[["top", "right"]].set_visible(False)


def _dates(times: np.ndarray) -> list[float]:
    return [float(date2num(datetime.fromtimestamp(at))) for at in times]


def _margins(kind: str, width: int) -> tuple[float, float]:
    """Columns to the left for names, and rows below for the time."""
    return {"bargauge": (width * 0.42, 0.7), "stat": (0.4, 0.2)}.get(kind, (1.2, 1.0))


def _named(target: dict[str, Any], labels: dict[str, str]) -> str:
    name = str(target["legendFormat"])
    for label, value in labels.items():
        name = name.replace("{{" + label + "}}", value)
    return name


def _filled(times: np.ndarray, step: float, found: list[tuple[float, str]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.full(len(times), np.nan)
    for at, value in found:
        number = float(value)
        values[min(round((at - times[0]) / step), len(times) - 1)] = number if np.isfinite(number) else np.nan
    return times, values


def _short(name: str) -> str:
    """Without what is the same in all: the prefix and version of topics, the scheme of servers."""
    for part in ("duologue.", ".v1", "http://"):
        name = name.replace(part, "")
    return name


def _shown(value: float, defaults: dict[str, Any]) -> str:
    if np.isnan(value):
        return ""
    if defaults["unit"] == "percentunit":
        return f"{value:.{defaults.get('decimals', 0)}%}"
    suffix = {"s": " s", "ops": "/s", "reqps": "/s"}.get(defaults["unit"], "")
    decimals = defaults.get("decimals")
    return (f"{value:,.{decimals}f}" if decimals is not None else f"{value:,.4g}") + suffix


if __name__ == "__main__":
    given = sys.argv[3] if len(sys.argv) > 3 else HERE.parents[1] / "docs/dashboards"
    main(sys.argv[1].rstrip("/"), float(sys.argv[2]), Path(given))
