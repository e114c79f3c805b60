"""Pictures of an evaluation, for light and dark pages: DET curves, and what each threshold would give."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import logit

from kws.evaluate.metrics import REPORTED_FALSE_ALARMS_PER_HOUR, OperatingPoint
from kws.evaluate.protocol import Evaluation

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart with any colour vision. Source: Okabe & Ito 2008, "Color universal design"."""
DARK_COLOURS = ("#56b4e9", "#e69f00", "#2fc79a", "#e79fc7", "#f0e442", "#7fb3ff")
THEMES: dict[str, dict[str, Any]] = {
    "light": {"paper": "#ffffff", "ink": "#1c2430", "grid": "#d4dae3", "colours": COLOURS},
    "dark": {"paper": "#171c24", "ink": "#e3e8ef", "grid": "#39424f", "colours": DARK_COLOURS},
}
DASHES = ("-", "--", "-.", ":")
MOST_ALARMS_PER_HOUR = 100.0
EDGE = 1e-5
"""Thresholds nearer to 0 or 1 are drawn here."""
NUM_BINS = 28


def draw_det_curves(evaluation: Evaluation, theme: str) -> bytes:
    """Returns a PNG of misses against false alarms an hour, a line for each condition."""
    figure, axes, colours = _figure(theme)
    first = next(iter(evaluation.curves.values()))
    floor = 0.5 / first[0].hours
    for index, (name, curve) in enumerate(evaluation.curves.items()):
        points = [point for point in curve if point.false_alarms_per_hour <= MOST_ALARMS_PER_HOUR]
        rates = [max(point.false_alarms_per_hour, floor) for point in points]
        misses = [100 * point.false_rejection_rate for point in points]
        style = {"color": colours[index % len(colours)], "linestyle": DASHES[index % len(DASHES)]}
        axes.step(rates, misses, where="pre", label=name, linewidth=2, **style)
        at = evaluation.at_threshold[name]
        at_rate = min(max(at.false_alarms_per_hour, floor), MOST_ALARMS_PER_HOUR)
        axes.plot([at_rate], [100 * at.false_rejection_rate], "o", color=style["color"], markersize=7)
    axes.axvline(floor, color=THEMES[theme]["ink"], linestyle=":", linewidth=1)
    axes.annotate(f"none in {first[0].hours:.2f} h", (floor, 99), fontsize=9, rotation=90, va="top", ha="right")
    axes.set_xscale("log")
    axes.set_xticks([*REPORTED_FALSE_ALARMS_PER_HOUR, 10, 100], ["0.1", "0.5", "1", "2", "10", "100"])
    axes.set_xlim(min(0.08, floor * 0.7), MOST_ALARMS_PER_HOUR)
    axes.set_ylim(0, 100)
    axes.set_xlabel("false alarms an hour")
    axes.set_ylabel(f"misses of {first[0].num_positives}, %")
    axes.legend(title="dots: at its own threshold", title_fontsize=9, frameon=False)
    return png(figure)


def draw_thresholds(evaluation: Evaluation, peaks: Mapping[str, Sequence[float]], theme: str) -> bytes:
    """Returns a PNG of the clips' highest scores above, and of false alarms an hour by threshold below.

    Args:
        evaluation: what was measured.
        peaks: highest smoothed score of each positive, by condition.
        theme: "light" or "dark".
    """
    figure, (above, below), colours = _figure(theme, num_rows=2)
    low, high = _log_odds([0, 1])
    bins = np.linspace(low, high, NUM_BINS)
    for index, (name, values) in enumerate(peaks.items()):
        style = {"color": colours[index % len(colours)], "linestyle": DASHES[index % len(DASHES)]}
        above.hist(_log_odds(values), bins=bins, histtype="step", linewidth=2, label=name, **style)
    above.set_ylabel("recordings of the phrase")
    above.legend(frameon=False, loc="upper left", title="highest score of each", title_fontsize=9)
    curve: Sequence[OperatingPoint] = next(iter(evaluation.curves.values()))
    thresholds = _log_odds([point.threshold for point in curve])
    below.step(
        thresholds, [point.false_alarms_per_hour for point in curve], where="post", color=colours[0], linewidth=2
    )
    below.set_yscale("symlog", linthresh=1 / curve[0].hours)
    below.set_ylim(bottom=0)
    below.set_ylabel("false alarms an hour")
    below.set_xlabel("threshold (in even steps of log odds)")
    ticks = [0.0001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999]
    below.set_xticks(_log_odds(ticks), [f"{tick:g}" for tick in ticks])
    for axes in (above, below):
        axes.axvline(_log_odds([evaluation.trigger.threshold])[0], color=THEMES[theme]["ink"], linestyle=":")
    return png(figure)


def _log_odds(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return logit(np.clip(np.asarray(values, np.float64), EDGE, 1 - EDGE))


def _figure(theme: str, num_rows: int = 1) -> tuple[Any, Any, Sequence[str]]:
    from matplotlib.figure import Figure

    look = THEMES[theme]
    figure = Figure(figsize=(7.2, 4.2 if num_rows == 1 else 5.4), layout="constrained", facecolor=look["paper"])
    grid = np.atleast_1d(figure.subplots(num_rows, sharex=True))
    for axes in grid:
        dress(axes, theme)
    return figure, grid[0] if num_rows == 1 else grid, look["colours"]


def dress(axes: Any, theme: str) -> None:
    """Gives `axes` the colours of `theme`."""
    look = THEMES[theme]
    axes.set_facecolor(look["paper"])
    axes.grid(color=look["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=look["ink"], which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(look["grid"])
    axes.xaxis.label.set_color(look["ink"])
    axes.yaxis.label.set_color(look["ink"])


def png(figure: Any, dpi: int = 144) -> bytes:
    """Returns `figure` as a PNG, its texts in the ink of its axes."""
    ink = figure.axes[0].xaxis.label.get_color()
    for axes in figure.axes:
        legend = axes.get_legend()
        for text in (*axes.texts, *(legend.get_texts() if legend else ()), *([legend.get_title()] if legend else ())):
            text.set_color(ink)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return buffer.getvalue()
