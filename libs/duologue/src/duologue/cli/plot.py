"""The reliability diagram as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from duologue.core.fitting import Fit
from duologue.core.judgements import BINS, Judgements, ece, reliability

_NAMES = {"choice": "choice", "noul": "yes / no"}
_BEFORE, _AFTER = "#c44e52", "#2a6f97"
# Of the normal distribution, for 95%.
_Z = 1.96
_LARGEST_MARK = 130.0


def draw_reliability(fits: Sequence[Fit], model: str, file: Path) -> None:
    """A column for each type of question: how often the model was right, over how sure it was; below, how often so."""
    figure = Figure(figsize=(4.6 * len(fits), 6.4), layout="constrained")
    axes = figure.subplots(2, len(fits), squeeze=False, sharex=True, height_ratios=(4, 1))
    for column, fit in enumerate(fits):
        _draw_fit(fit, axes[0, column], axes[1, column])
    axes[0, 0].set_ylabel("share of answers that were right, with 95% intervals")
    axes[1, 0].set_ylabel("answers")
    figure.suptitle(f"Reliability of {_short(model)}", fontsize=12)
    handles, labels = max((ax.get_legend_handles_labels() for ax in axes[0]), key=lambda each: len(each[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})


def _draw_fit(fit: Fit, upper: Axes, lower: Axes) -> None:
    sides = [("before", fit.before, _BEFORE)] + ([("after, held out", fit.after, _AFTER)] if fit.after else [])
    upper.set_title(_title(fit), fontsize=10)
    upper.plot((0, 1), (0, 1), color="0.6", linestyle="--", linewidth=1, label="as right as sure")
    for name, judgements, colour in sides:
        if len(judgements):
            _draw_line(upper, judgements, name, colour)
    lower.hist(
        [judgements.confidence for _, judgements, _ in sides],
        bins=np.linspace(0, 1, BINS + 1).tolist(),
        color=[colour for _, _, colour in sides],
    )
    upper.set(xlim=(0, 1), ylim=(0, 1))
    lower.set_xlabel("confidence: probability of the answer taken")
    for ax in (upper, lower):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)


def _title(fit: Fit) -> str:
    title = f"{_NAMES[fit.question]}: {len(fit.before)} answers"
    if fit.after is None or fit.temperature is None:
        return f"{title}\nno temperature"
    return f"{title}, temperature {fit.temperature:g}\nECE {ece(fit.before):.3f} before, {ece(fit.after):.3f} after"


def _draw_line(ax: Axes, judgements: Judgements, label: str, colour: str) -> None:
    """A mark for each bin, the larger the more answers it holds."""
    bins = reliability(judgements)
    sure, right = np.array([(each.confidence, each.right) for each in bins]).T
    low, high = np.array([_wilson(each.right, each.count) for each in bins]).T
    sizes = [_LARGEST_MARK * each.count / max(each.count for each in bins) for each in bins]
    around = np.maximum((right - low, high - right), 0)
    ax.errorbar(sure, right, yerr=around, fmt="-", color=colour, linewidth=0.8, elinewidth=0.8, capsize=2, alpha=0.55)
    # Unclipped, so that a mark on the edge is a whole one.
    ax.scatter(sure, right, s=np.maximum(sizes, 12), color=colour, label=label, zorder=3, clip_on=False)


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The score interval of a share, which stays within [0, 1] however few there are (Wilson 1927)."""
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return float(centre - half), float(centre + half)


def _short(model: str) -> str:
    """A path says most in its last two parts."""
    parts = model.rstrip("/").split("/")
    return model if len(parts) <= 2 else ".../" + "/".join(parts[-2:])
