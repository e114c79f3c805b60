"""The report of a wake word: DET curve and score traces as pictures, counts beside rates as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.evaluate.metrics import (
    REPORTED_FALSE_ALARMS_PER_HOUR,
    OperatingPoint,
    point_at,
    poisson_interval,
    wilson_interval,
)
from kws.evaluate.protocol import Evaluation
from kws.model.files import write_atomically


@dataclass(frozen=True)
class Report:
    """What is drawn.

    Attributes:
        phrase: the wake word.
        points: the DET curve, thresholds rising.
        traces: (label, smoothed scores (num_frames,), frame of the phrase's end or −1).
        hop_s: seconds between two frames.
        losses: mean loss of each epoch, possibly none.
        threshold: where the trigger stands.
    """

    phrase: str
    points: Sequence[OperatingPoint]
    traces: Sequence[tuple[str, np.ndarray, int]]
    hop_s: float
    losses: Sequence[float] = ()
    threshold: float = 0.5


def write_report(folder: Path, report: Report) -> None:
    """Writes det.png, scores.png and report.json into `folder`."""
    write_atomically(folder / "det.png", draw_det(report))
    if report.traces:
        write_atomically(folder / "scores.png", draw_traces(report))
    rates = {str(rate): point_at(report.points, rate).to_dict() for rate in REPORTED_FALSE_ALARMS_PER_HOUR}
    values = {
        "phrase": report.phrase,
        "at_false_alarms_per_hour": rates,
        "curve": [point.to_dict() for point in report.points],
        "losses": list(report.losses),
    }
    write_atomically(folder / "report.json", (json.dumps(values, indent=1) + "\n").encode())


def format_evaluation(evaluation: Evaluation) -> str:
    """Returns misses at fixed false alarms an hour as a table of text, counts and hours beside the rates."""
    first = next(iter(evaluation.curves.values()))[0]
    width = max(map(len, evaluation.curves))
    lines = [f"{evaluation.keyword}: misses of {first.num_positives}, false alarms in {first.hours:.2f} h"]
    for name, curve in evaluation.curves.items():
        cells = []
        for rate in reversed(REPORTED_FALSE_ALARMS_PER_HOUR):
            point = point_at(curve, rate)
            low, high = wilson_interval(point.num_missed, point.num_positives)
            cells.append(f"{point.false_rejection_rate:6.1%} ({low:.0%}–{high:.0%}) at {rate:g}/h")
        lines.append(f"  {name:{width}} " + "   ".join(cells))
    for name, point in evaluation.at_threshold.items():
        lines.append(f"  {name:{width}} at its threshold {point.threshold:g}: {point.num_missed} missed")
    for source, count, hours in evaluation.false_alarms:
        low, high = poisson_interval(count, hours)
        lines.append(f"  {source}: {count} false alarms in {hours:.2f} h ({low:.1f}–{high:.1f} an hour)")
    return "\n".join(lines)


def draw_det(report: Report) -> bytes:
    """Returns a PNG of misses against false alarms an hour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    points = [point for point in report.points if point.false_alarms_per_hour <= 100]
    floor = 0.5 / report.points[0].hours
    rates = [max(point.false_alarms_per_hour, floor) for point in points]
    axes.step(rates, [100 * point.false_rejection_rate for point in points], where="pre", color="tab:blue")
    axes.axvline(floor, color="gray", linestyle=":", label=f"no alarm in {report.points[0].hours:.2f} h")
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.set_xlabel("false alarms an hour")
    axes.set_ylabel(f"misses of {report.points[0].num_positives}, %")
    axes.set_title(f"“{report.phrase}”")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return _png(figure)


def draw_traces(report: Report) -> bytes:
    """Returns a PNG of smoothed scores over time, with the phrase (its end marked) and without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.1 * len(report.traces) + 0.8), layout="constrained")
    for axes, (label, scores, end) in zip(figure.subplots(len(report.traces), squeeze=False)[:, 0], report.traces):
        times = np.arange(len(scores)) * report.hop_s
        axes.plot(times, scores, color="tab:green" if end >= 0 else "tab:red")
        axes.axhline(report.threshold, color="gray", linestyle=":")
        if end >= 0:
            axes.axvline(end * report.hop_s, color="black", linewidth=0.8)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(0, times[-1])
        axes.set_ylabel(label, fontsize=7)
    axes.set_xlabel("seconds; the phrase ends at the black line, the trigger stands at the dotted one")
    return _png(figure)


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
