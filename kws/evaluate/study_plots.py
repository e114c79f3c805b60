"""The picture of a transfer study: learning curves over epochs and over clips; start, slope and end side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kws.evaluate.learning_curves import END, SLOPE, START, Curve, Study
from kws.evaluate.plots import DASHES, THEMES, dress, png

DPI = 80
"""Enough to read, and small enough to be kept beside a recipe."""
BAND = 0.15


def draw_study(study: Study, title: str, theme: str = "light") -> bytes:
    """Returns a PNG: above the curves of every mode, below the three parts that transfer may raise.

    Args:
        study: one or more cells.
        title: above the picture.
        theme: "light" or "dark".
    """
    from matplotlib.figure import Figure

    look = THEMES[theme]
    figure = Figure(figsize=(10, 6.6), layout="constrained", facecolor=look["paper"])
    figure.suptitle(title, color=look["ink"])
    rows: Any = figure.subfigures(2, 1, height_ratios=[3, 2])
    upper, lower = rows[0].subplots(1, 2), rows[1].subplots(1, 3)
    for part in rows:
        part.set_facecolor(look["paper"])
    for axes in (*upper, *lower):
        dress(axes, theme)
        axes.title.set_color(look["ink"])
    epochs = {mode: study.over_epochs(mode, study.largest_size(mode)) for mode in study.modes}
    sizes = {mode: study.over_sizes(mode) for mode in study.modes}
    _draw_curves(upper[0], epochs, look["colours"], "epochs", f"most clips ({study.sizes[-1]} of each label)")
    _draw_curves(upper[1], sizes, look["colours"], "clips of each label", "after the last epoch")
    upper[0].set_ylabel("mean recall, %")
    upper[1].legend(frameon=False, loc="best")
    parts: Sequence[tuple[str, str, Callable[[Curve], float]]] = (
        (START, "start: after the first epoch, %", lambda curve: 100 * curve.start),
        (SLOPE, "slope: points a doubling of epochs", lambda curve: 100 * curve.slope),
        (END, "end: after the last epoch, %", lambda curve: 100 * curve.end),
    )
    for axes, (name, label, value) in zip(lower, parts):
        _draw_part(axes, {mode: value(curve) for mode, curve in epochs.items()}, look["colours"], label)
        if name != SLOPE:
            _draw_seeds(axes, epochs, name, look["ink"])
    return png(figure, DPI)


def _draw_curves(axes: Any, curves: dict[str, Curve], colours: Sequence[str], label: str, title: str) -> None:
    for index, (mode, curve) in enumerate(curves.items()):
        colour, mean = colours[index % len(colours)], 100 * np.array(curve.mean)
        axes.plot(curve.at, mean, DASHES[index % len(DASHES)], color=colour, linewidth=2, marker="o", label=mode)
        axes.fill_between(curve.at, 100 * np.array(curve.low), 100 * np.array(curve.high), color=colour, alpha=BAND)
    ticks = sorted({at for curve in curves.values() for at in curve.at})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label)
    axes.set_title(title, fontsize=10)


def _draw_part(axes: Any, values: dict[str, float], colours: Sequence[str], title: str) -> None:
    places = range(len(values))
    axes.bar(places, list(values.values()), color=[colours[place % len(colours)] for place in places])
    axes.set_xticks(places, list(values))
    axes.set_title(title, fontsize=10)
    lowest = min(values.values())
    if lowest > 20:  # scores: where they lie, not from 0 on
        axes.set_ylim(max(0, lowest - 15), 101)


def _draw_seeds(axes: Any, curves: dict[str, Curve], part: str, ink: str) -> None:
    """Draws the range of the seeds over the bars."""
    index = 0 if part == START else -1
    for place, curve in enumerate(curves.values()):
        axes.plot([place] * 2, [100 * curve.low[index], 100 * curve.high[index]], color=ink, linewidth=1.5)
