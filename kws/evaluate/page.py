"""The page of a report: numbers and examples ─▶ rows, traces ─▶ index.html, from `page.html.j2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kws.evaluate.examples import Example
from kws.evaluate.heard import BOUNDARY, spell
from kws.frames import SAMPLE_RATE

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH, HEIGHT = 480, 132
"""Of a trace, in its own units."""
TOP, BOTTOM = 8.0, 92.0
"""Where a score of 1 and of 0 lie; below are the phones and the seconds."""
NUM_COLUMNS = 240
LEAST_PHONE_GAP = 13.0
"""Between two phones of the picture; all are in the text under it."""
TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Trace:
    """A clip's score over its waveform, in units of the picture.

    Attributes:
        envelope: path of the waveform.
        score: points of the score.
        threshold_y: where the trigger stands.
        mark_x: where it fired, or where the score is highest.
        phones: (x, label) of what the output layer heard.
        seconds: (x, second) of the marks on the axis.
        duration_s: length of the clip.
    """

    envelope: str
    score: str
    threshold_y: float
    mark_x: float
    phones: Sequence[tuple[float, str]]
    seconds: Sequence[tuple[float, int]]
    duration_s: float


@dataclass(frozen=True)
class Row:
    """An example as the page shows it: its clip's file, its trace, and the text beside it."""

    clip: str
    example: Example
    trace: Trace
    heard: str | None
    at: str


def page_environment() -> Environment:
    """Returns what renders the templates beside this module: values escaped, unknown names refused."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("kws.evaluate", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_page(
    values: Mapping[str, Any],
    misses: Mapping[str, Sequence[tuple[str, Example]]],
    alarms: Sequence[tuple[str, Example]],
) -> str:
    """Returns the HTML of a report.

    Args:
        values: `FullReport.to_dict()`.
        misses: (clip's file, miss) by condition.
        alarms: (clip's file, alarm).
    """
    environment = page_environment()
    environment.filters |= {"percent": percent, "rate": rate, "score": score}
    row = partial(_row, threshold=values["trigger"]["threshold"])
    conditions = values["conditions"]
    return environment.get_template(TEMPLATE).render(
        values,
        first=next(iter(conditions.values())),
        rates=list(reversed(next(iter(conditions.values()))["at_false_alarms_per_hour"])),
        misses={name: [row(clip, example) for clip, example in named] for name, named in misses.items()},
        alarms=[row(clip, example) for clip, example in alarms],
        width=WIDTH,
        height=HEIGHT,
        bottom=BOTTOM,
    )


def trace(example: Example, threshold: float) -> Trace:
    """Returns the trace of `example`, with a trigger at `threshold`."""
    duration_s = max(example.duration_s, 1 / SAMPLE_RATE)

    def x(seconds: float) -> float:
        return round(seconds / duration_s * WIDTH, 1)

    def y(value: float) -> float:
        return round(BOTTOM - value * (BOTTOM - TOP), 1)

    phones: list[tuple[float, str]] = []
    for phone in example.heard or ():
        if phone.label != BOUNDARY and (not phones or x(phone.start_s) - phones[-1][0] >= LEAST_PHONE_GAP):
            phones.append((x(phone.start_s), phone.label))
    return Trace(
        envelope=_envelope(example.waveform),
        score=" ".join(f"{x(time_s)},{y(value)}" for time_s, value in zip(example.times_s, example.scores)),
        threshold_y=y(threshold),
        mark_x=x(example.mark_s),
        phones=phones,
        seconds=[(x(second), second) for second in range(int(duration_s) + 1)],
        duration_s=duration_s,
    )


def percent(share: float) -> str:
    """Returns `share` (0 to 1) as per cent, such as "4.1 %"."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def rate(per_hour: float) -> str:
    """Returns a rate with three digits at most, none of them after a plain number: "0.48", "12", "0"."""
    return f"{per_hour:.0f}" if per_hour >= 10 or per_hour == 0 else f"{per_hour:.2g}"


def score(value: float) -> str:
    """Returns a score so that those near 1 can be told apart: "0.731", "0.99998"."""
    return f"{value:.3f}" if value < 0.999 else f"1 − {1 - value:.1g}" if value < 1 else "1"


def clock(seconds: float) -> str:
    """Returns `seconds` as m:ss.s, or h:mm:ss.s."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _row(clip: str, example: Example, threshold: float) -> Row:
    heard = None if example.heard is None else spell(example.heard)
    return Row(clip, example, trace(example, threshold), heard, clock(example.at_s))


def _envelope(waveform: np.ndarray) -> str:
    """Returns the path of the waveform's highest and lowest samples in each column, scaled to its own peak."""
    columns = np.array_split(waveform, min(NUM_COLUMNS, max(1, len(waveform))))
    peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-9)
    middle, half = (TOP + BOTTOM) / 2, (BOTTOM - TOP) / 2
    upper = [(index, middle - column.max() / peak * half) for index, column in enumerate(columns) if len(column)]
    lower = [(index, middle - column.min() / peak * half) for index, column in enumerate(columns) if len(column)]
    step = WIDTH / len(columns)
    points = [f"{index * step:.0f} {height:.1f}" for index, height in upper + lower[::-1]]
    return f"M{'L'.join(points)}Z" if points else ""
