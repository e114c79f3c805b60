"""The threshold for a rate of false alarms in the user's own room: audio ─▶ scores ─▶ threshold ─▶ wakeword.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from kws.detect.trigger import Trigger
from kws.errors import ArtefactError, AudioError
from kws.evaluate.examples import find_events
from kws.evaluate.metrics import (
    LOGIT_RANGE,
    OperatingPoint,
    det_curve,
    hours_to_prove,
    poisson_interval,
    rate_bound,
    smoothed_scores,
    wilson_interval,
)
from kws.evaluate.room import Heard
from kws.model.artefact import METADATA_FILE
from kws.model.settings import TriggerConfig
from kws.model.threshold import write_threshold

NUM_LOUDEST = 5
STEPS = (0.1, 0.01, 0.001)
"""Log odds by which thresholds are tried, from above."""
MARGIN = 0.05
"""Log odds above the loudest place that must not fire, so that another machine's rounding doesn't fire there."""
RECORD_KEY = "calibrations"
"""Where wakeword.json keeps what was calibrated, under `details`, oldest first."""


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it is good for.

    Attributes:
        keyword: whose threshold.
        false_alarms_per_hour: the rate aimed at.
        before: misses and alarms at the threshold that the wake word came with.
        after: at the one chosen.
        loudest: (recording, seconds, highest score) of the loudest places.
    """

    keyword: str
    false_alarms_per_hour: float
    before: OperatingPoint
    after: OperatingPoint
    loudest: Sequence[tuple[str, float, float]]

    @property
    def is_proven(self) -> bool:
        """Whether the audio shows at 95 % that the rate is no higher than the one aimed at."""
        return rate_bound(self.after.num_false_alarms, self.after.hours) <= self.false_alarms_per_hour

    def hours_missing(self, num_more: int = 0) -> float:
        """Returns the hours still needed to show that, if `num_more` alarms fall into them."""
        needed = hours_to_prove(self.false_alarms_per_hour, self.after.num_false_alarms + num_more)
        return max(0.0, needed - self.after.hours)

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, hours, rates and intervals, for JSON; misses are null where no positives were given."""
        return {
            "keyword": self.keyword,
            "target_false_alarms_per_hour": self.false_alarms_per_hour,
            "before": _point(self.before),
            "after": _point(self.after),
            "is_proven": self.is_proven,
            "hours_missing": {str(more): self.hours_missing(more) for more in range(3)},
            "loudest": [{"source": name, "at_s": at_s, "score": score} for name, at_s, score in self.loudest],
        }

    def record(self) -> dict[str, Any]:
        """Returns what wakeword.json remembers of it."""
        point = self.after
        return {
            "date": date.today().isoformat(),
            "keyword": self.keyword,
            "previous_threshold": self.before.threshold,
            "threshold": point.threshold,
            "target_false_alarms_per_hour": self.false_alarms_per_hour,
            "num_false_alarms": point.num_false_alarms,
            "hours": point.hours,
            "false_alarms_per_hour_at_most": rate_bound(point.num_false_alarms, point.hours),
        }


def least_hours(false_alarms_per_hour: float) -> float:
    """Returns the hours under which nothing can be said: even without an alarm, a higher rate is likelier than not."""
    return float(chi2.ppf(0.5, 2) / 2 / false_alarms_per_hour)


def allowed_alarms(false_alarms_per_hour: float, hours: float) -> int:
    """Returns how many alarms the audio may hold: the most with which the rate is as likely met as not.

    The rate just above the (k + 1)-th loudest event is Gamma(k + 1) over the hours, and its median must not be above
    the rate. That is about a third of an alarm stricter than counting: −1 where the audio is too short for even none.
    """
    most = ceil(false_alarms_per_hour * hours) + 1
    medians = chi2.ppf(0.5, 2 * np.arange(most + 1) + 2) / 2
    return int((medians <= false_alarms_per_hour * hours).sum()) - 1


def check_length(false_alarms_per_hour: float, hours: float) -> None:
    """Raises an `AudioError` where `hours` are too few to say anything about the rate."""
    if hours < least_hours(false_alarms_per_hour):
        can_say = f"try --false-alarms-per-hour {least_hours(1.0) / hours * 1.005:.3g}, or " if hours > 0 else ""
        raise AudioError(
            f"{hours:.2f} h of audio are too few for {false_alarms_per_hour:g} false alarms an hour: even if it never "
            f"fired, the true rate would more likely be higher; {can_say}give at least "
            f"{least_hours(false_alarms_per_hour):.2f} h ({hours_to_prove(false_alarms_per_hour):.1f} h to prove it)"
        )


def calibrate(
    heard: Heard,
    column: int,
    keyword: str,
    trigger: TriggerConfig,
    false_alarms_per_hour: float,
    positives: Sequence[np.ndarray] = (),
) -> Calibration:
    """Returns the lowest threshold from which on the trigger fires no more often than the rate allows.

    Args:
        heard: the user's audio.
        column: which of its scores.
        keyword: their name.
        trigger: of the keyword, with the threshold it has now.
        false_alarms_per_hour: the rate.
        positives: (num_frames,) scores of recordings of the phrase, to count misses.

    Raises:
        AudioError: too little audio, or no threshold is high enough.
    """
    check_length(false_alarms_per_hour, heard.hours)
    streams = [scores[:, column] for scores in heard.streams]
    most = allowed_alarms(false_alarms_per_hour, heard.hours)
    threshold = _lowest_threshold(streams, trigger, heard.hop_s, most)
    before, after = det_curve(positives, streams, trigger, heard.hop_s, [trigger.threshold, threshold])
    found = [
        (name, (event.frame + 1) * heard.hop_s, event.peak)
        for name, scores in zip(heard.names, streams)
        for event in find_events(
            smoothed_scores(scores, trigger), replace(trigger, threshold=1.0), heard.hop_s, NUM_LOUDEST
        )
    ]
    found.sort(key=lambda place: -place[2])
    return Calibration(keyword, false_alarms_per_hour, before, after, found[:NUM_LOUDEST])


def format_calibration(calibration: Calibration) -> str:
    """Returns the threshold and what the audio shows of it, as text that claims no more."""
    before, after, aim = calibration.before, calibration.after, calibration.false_alarms_per_hour
    low, high = poisson_interval(after.num_false_alarms, after.hours)
    missing = [f"{calibration.hours_missing(more):.1f} h" for more in range(3)]
    lines = [
        f"{calibration.keyword}: threshold {before.threshold:.6g} → {after.threshold:.6g} (aim: {aim:g} alarms/h)",
        f"  before: {_alarms(before)}",
        f"  now:    {_alarms(after)}: {after.false_alarms_per_hour:.2g} an hour (95 % interval {low:.2g}–{high:.2g})",
    ]
    if after.num_positives:
        lines.append(
            f"  misses of {after.num_positives}: {before.num_missed} before, {after.num_missed} now "
            f"({after.false_rejection_rate:.1%}; 95 % interval "
            "{:.1%}–{:.1%})".format(*wilson_interval(after.num_missed, after.num_positives))
        )
    at_most = rate_bound(after.num_false_alarms, after.hours)
    if calibration.is_proven:
        lines.append(f"  proven at 95 %: at most {at_most:.2g} an hour, in audio like this")
    else:
        lines.append(
            f"  not proven: this audio only shows that it is at most {at_most:.2g} an hour (95 %). To prove {aim:g}, "
            f"{missing[0]} more must pass without an alarm, or {missing[1]} with one, {missing[2]} with two"
        )
    if after.threshold < before.threshold:
        lines.append("  the threshold went down: was there an ordinary day's talk, television and noise in this audio?")
    lines.append("  loudest (the phrase must not be among them):")
    lines += [f"    {score:.6f}  {name} at {at_s:.1f} s" for name, at_s, score in calibration.loudest]
    return "\n".join(lines)


def own_artefact(model: str) -> Path:
    """Returns where the wake word `model` is, to be changed.

    Raises:
        ArtefactError: it isn't there, or it came with the package.
    """
    path = Path(model).expanduser()
    if not (path.is_file() or (path / METADATA_FILE).is_file()):
        raise ArtefactError(
            f"no wake word of your own at '{model}' that could be changed; name its folder or .kws file, or --dry-run"
        )
    return path


def save_threshold(path: Path, column: int, calibration: Calibration) -> None:
    """Writes the threshold into the artefact at `path`, whole or not at all, and records the one it had before.

    Nothing but wakeword.json changes; of a `.kws` archive the other members are copied.

    Raises:
        ArtefactError: it can't be read or written.
    """
    write_threshold(path, column, calibration.after.threshold, RECORD_KEY, calibration.record())


def _lowest_threshold(streams: Sequence[np.ndarray], trigger: TriggerConfig, hop_s: float, most: int) -> float:
    """Returns the lowest threshold from which on there are at most `most` firings, searched from above."""
    smoothed = [smoothed_scores(scores, trigger) for scores in streams]

    def num_firings(threshold: float) -> int:
        swept = replace(trigger, threshold=threshold)
        loud = (scores for scores in smoothed if len(scores) and scores.max() >= threshold)
        return sum(len(Trigger(swept, hop_s).feed_smoothed(scores)) for scores in loud)

    top = low = high = LOGIT_RANGE
    if num_firings(float(expit(top))) > most:
        raise AudioError(
            f"no threshold is high enough: it fires {num_firings(float(expit(top)))} times even at {expit(top):.7f}. "
            "If this audio holds the phrase, leave that out; else train with it: kws train PHRASE --negatives DIR"
        )
    for step in STEPS:  # coarse, then finer between the last two
        bottom = low if low < high else -LOGIT_RANGE
        while high > bottom and num_firings(float(expit(high - step))) <= most:
            high -= step
        low = high - step
    return float(expit(high + MARGIN))


def _point(point: OperatingPoint) -> Mapping[str, Any]:
    values = point.to_dict()
    if not point.num_positives:
        values |= {"num_missed": None, "false_rejection_rate": None, "false_rejection_rate_interval": None}
    return values


def _alarms(point: OperatingPoint) -> str:
    return f"{point.num_false_alarms} alarms in {point.hours:.2f} h"
