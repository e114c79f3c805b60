"""Metrics of wake words: misses against false alarms an hour, counted by the live trigger, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest, chi2

from kws.detect.trigger import Trigger, smooth
from kws.model.settings import TriggerConfig

NUM_THRESHOLDS = 200
CONFIDENCE = 0.95
REPORTED_FALSE_ALARMS_PER_HOUR = (0.1, 0.5, 1.0, 2.0)
LOGIT_RANGE = 15.0
"""Thresholds are swept evenly in log odds between ± this; a float32 score can't tell more from 1."""


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold and what it gives.

    Attributes:
        threshold: smoothed score, 0 to 1.
        num_missed: positives in which nothing fired, of `num_positives`.
        num_false_alarms: firings in `hours` of audio without the keyword.
    """

    threshold: float
    num_missed: int
    num_positives: int
    num_false_alarms: int
    hours: float

    @property
    def false_rejection_rate(self) -> float:
        return self.num_missed / self.num_positives if self.num_positives else float("nan")

    @property
    def false_alarms_per_hour(self) -> float:
        return self.num_false_alarms / self.hours if self.hours else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, rates and 95 % intervals, for JSON."""
        low, high = wilson_interval(self.num_missed, self.num_positives)
        alarms_low, alarms_high = poisson_interval(self.num_false_alarms, self.hours)
        return {
            **asdict(self),
            "false_rejection_rate": self.false_rejection_rate,
            "false_rejection_rate_interval": [low, high],
            "false_alarms_per_hour": self.false_alarms_per_hour,
            "false_alarms_per_hour_interval": [alarms_low, alarms_high],
            "false_alarms_per_hour_at_most": rate_bound(self.num_false_alarms, self.hours),
        }


def count_firings(scores: np.ndarray, trigger: TriggerConfig, hop_s: float) -> int:
    """Returns how often the live trigger fires on `scores` (num_frames,), 0 to 1."""
    return len(Trigger(trigger, hop_s).feed(scores))


def thresholds_to_sweep() -> np.ndarray:
    """Returns the thresholds of a DET curve, rising."""
    return expit(np.linspace(-LOGIT_RANGE, LOGIT_RANGE, NUM_THRESHOLDS))


def det_curve(
    positives: Sequence[np.ndarray],
    negatives: Sequence[np.ndarray],
    trigger: TriggerConfig,
    hop_s: float,
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> list[OperatingPoint]:
    """Returns the detection error trade-off: an `OperatingPoint` a threshold, thresholds rising.

    Args:
        positives: (num_frames,) scores of clips that hold the keyword once each.
        negatives: (num_frames,) scores of continuous audio that never holds it.
        trigger: smoothing, consecutive frames and refractory period; its threshold is swept.
        hop_s: seconds between two frames.
        thresholds: rising; by default `thresholds_to_sweep()`.
    """
    return det_curves({"": positives}, negatives, trigger, hop_s, thresholds)[""]


def det_curves(
    positives: Mapping[str, Sequence[np.ndarray]],
    negatives: Sequence[np.ndarray],
    trigger: TriggerConfig,
    hop_s: float,
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> dict[str, list[OperatingPoint]]:
    """Returns `det_curve` of the positives in each condition, by its name; alarms are counted once for all of them."""
    swept = thresholds_to_sweep() if thresholds is None else thresholds
    triggers = [replace(trigger, threshold=float(threshold)) for threshold in swept]
    hours = sum(len(scores) for scores in negatives) * hop_s / 3600
    smoothed = [smoothed_scores(scores, trigger) for scores in negatives]
    num_alarms = [sum(_firings(scores, each, hop_s) for scores in smoothed) for each in triggers]
    curves = {}
    for name, clips in positives.items():
        smoothed = [smoothed_scores(scores, trigger) for scores in clips]
        num_hit = [sum(bool(_firings(scores, each, hop_s)) for scores in smoothed) for each in triggers]
        curves[name] = [
            OperatingPoint(each.threshold, len(clips) - hits, len(clips), alarms, hours)
            for each, hits, alarms in zip(triggers, num_hit, num_alarms)
        ]
    return curves


def point_at(points: Sequence[OperatingPoint], false_alarms_per_hour: float) -> OperatingPoint:
    """Returns the lowest threshold from which on the rate stays at or under `false_alarms_per_hour`."""
    best = points[-1]
    for point in reversed(points):
        if point.false_alarms_per_hour > false_alarms_per_hour:
            break
        best = point
    return best


def wilson_interval(num_events: int, num_trials: int) -> tuple[float, float]:
    """Returns the 95 % interval of a rate. Source: Wilson 1927, via SciPy."""
    if num_trials == 0:
        return 0.0, 1.0
    interval = binomtest(num_events, num_trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def poisson_interval(num_events: int, hours: float) -> tuple[float, float]:
    """Returns the exact 95 % interval of a rate an hour. Source: Garwood 1936."""
    if hours <= 0:
        return 0.0, float("inf")
    tail = (1 - CONFIDENCE) / 2
    low = chi2.ppf(tail, 2 * num_events) / 2 if num_events else 0.0
    return float(low / hours), float(chi2.ppf(1 - tail, 2 * num_events + 2) / 2 / hours)


def rate_bound(num_events: int, hours: float) -> float:
    """Returns the rate an hour that `num_events` in `hours` put an upper end to, at 95 % (one-sided).

    Source: Garwood 1936. It holds as well where a threshold was put just above the (k + 1)-th loudest event of a
    Poisson process, so that k are left: the rate there times the hours is Gamma(k + 1), whose 95 % point this is.
    """
    return float(chi2.ppf(CONFIDENCE, 2 * num_events + 2) / 2 / hours) if hours > 0 else float("inf")


def hours_to_prove(false_alarms_per_hour: float, num_events: int = 0) -> float:
    """Returns the hours of audio, `num_events` alarms in them, that put the rate under the one given at 95 %."""
    return rate_bound(num_events, 1.0) / false_alarms_per_hour


def mcnemar(is_first: Sequence[bool] | np.ndarray, is_second: Sequence[bool] | np.ndarray) -> tuple[int, int, float]:
    """Returns (pairs with the first alone, with the second alone, two-sided p value) of paired yes/no outcomes.

    Source: McNemar 1947, in its exact form: of the pairs that differ, half are expected on each side.
    """
    first, second = np.asarray(is_first, bool), np.asarray(is_second, bool)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    num_different = only_first + only_second
    p_value = float(binomtest(only_first, num_different, 0.5).pvalue) if num_different else 1.0
    return only_first, only_second, p_value


def smoothed_scores(scores: np.ndarray, trigger: TriggerConfig) -> np.ndarray:
    """Returns (num_frames,) what the trigger compares with its threshold, given `scores` (num_frames,)."""
    return smooth(np.pad(scores, (trigger.smoothing_frames - 1, 0)), trigger.smoothing_frames)


def _firings(smoothed: np.ndarray, trigger: TriggerConfig, hop_s: float) -> int:
    if not len(smoothed) or smoothed.max() < trigger.threshold:
        return 0
    return len(Trigger(trigger, hop_s).feed_smoothed(smoothed))
