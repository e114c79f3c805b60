"""The threshold: chosen on held-out audio; the head's bias is moved so that the loud end of its scores meets a rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit

from kws.detect.trigger import moving_mean
from kws.evaluate.metrics import REPORTED_FALSE_ALARMS_PER_HOUR, OperatingPoint, det_curve, point_at, smoothed_scores
from kws.model.head import Head
from kws.model.settings import TriggerConfig
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE

NUM_TRACES = 6
"""Windows of each kind whose scores the report draws."""
PEAK_S = 1.0
"""Held-out audio is cut into pieces of this length, in seconds; the highest score of each is a peak."""
TAIL_SHARE = 0.3
"""Share of the peaks, the highest, to which the tail is fitted."""


@dataclass(frozen=True)
class HeldOut:
    """Frames that training never saw: windows with the phrase, and longer audio without it."""

    positives: FrameSet
    negatives: FrameSet


@dataclass(frozen=True)
class Calibrated:
    """What was measured on held-out audio.

    Attributes:
        threshold: of the trigger, for which everything was shifted.
        at_threshold: misses and false alarms there.
        points: the DET curve.
        traces: (label, smoothed scores (num_frames,), frame of the phrase's end or −1) examples.
        false_alarms_per_hour: the rate aimed at.
    """

    threshold: float
    at_threshold: OperatingPoint
    points: list[OperatingPoint]
    traces: list[tuple[str, np.ndarray, int]]
    false_alarms_per_hour: float

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, rates and intervals for JSON."""
        reported = {str(rate): point_at(self.points, rate).to_dict() for rate in REPORTED_FALSE_ALARMS_PER_HOUR}
        return {
            "measured_on": "held-out synthetic voices, and held-out parts of the recordings given",
            "target_false_alarms_per_hour": self.false_alarms_per_hour,
            "at_threshold": self.at_threshold.to_dict(),
            "at_false_alarms_per_hour": reported,
        }


def calibrate(
    head: Head, held_out: HeldOut, trigger: TriggerConfig, hop_s: float, false_alarms_per_hour: float
) -> Calibrated:
    """Shifts the bias of `head` in place so that `trigger.threshold` meets the rate, and returns what that gives.

    The rate is that of `tail_level`. Counted, the few alarms in half an hour of audio would set a threshold by chance.
    """
    positives = head_logits(head, held_out.positives.frames)
    negatives = head_logits(head, held_out.negatives.frames)
    shift = threshold_logit(trigger) - tail_level(negatives, trigger, false_alarms_per_hour, hop_s)
    with torch.no_grad():
        head.output.bias.add_(shift)
    positive_scores = [expit(logits + shift) for logits in positives]
    negative_scores = [expit(logits + shift) for logits in negatives]
    points = det_curve(positive_scores, negative_scores, trigger, hop_s)
    at_threshold = det_curve(positive_scores, negative_scores, trigger, hop_s, [trigger.threshold])[0]
    examples = zip((smoothed_scores(scores, trigger) for scores in positive_scores), held_out.positives.end_frames)
    smoothed = (smoothed_scores(scores, trigger) for scores in negative_scores)
    loudest = sorted(smoothed, key=lambda scores: -scores.max())[:NUM_TRACES]
    drawn: list[tuple[str, np.ndarray, int]] = [
        ("with the phrase", scores, int(end)) for scores, end in islice(examples, NUM_TRACES)
    ]
    drawn += [("without it", scores, NEGATIVE) for scores in loudest]
    return Calibrated(trigger.threshold, at_threshold, points, drawn, false_alarms_per_hour)


def tail_level(
    traces: Sequence[np.ndarray], trigger: TriggerConfig, false_alarms_per_hour: float, hop_s: float
) -> float:
    """Returns the logit that peaks of smoothed `traces` would exceed so often if their loud end were an exponential.

    Minutes can't show a rate an hour: the three tenths of the peaks that are highest say how the rest goes on.

    Args:
        traces: (num_frames,) logits of continuous audio without the phrase.
        trigger: smooths them.
        false_alarms_per_hour: how often.
        hop_s: seconds between two frames.

    Source: peaks over a threshold, Pickands 1975, with the exponential tail of Gumbel's domain.
    """
    size = max(1, round(PEAK_S / hop_s))
    smoothed = [smoothed_logits(trace, trigger) for trace in traces]
    peaks = np.array([trace[first : first + size].max() for trace in smoothed for first in range(0, len(trace), size)])
    start = float(np.quantile(peaks, 1 - TAIL_SHARE))
    scale = float(np.mean(peaks[peaks > start] - start)) if np.any(peaks > start) else 0.0
    peaks_per_hour = TAIL_SHARE * 3600 / PEAK_S
    return start + scale * float(np.log(max(1.0, peaks_per_hour / false_alarms_per_hour)))


def smoothed_logits(logits: np.ndarray, trigger: TriggerConfig) -> np.ndarray:
    """Returns `logits` averaged as the trigger averages those of its scores."""
    padded = np.pad(logits, (trigger.smoothing_frames - 1, 0), mode="edge")
    return moving_mean(padded, trigger.smoothing_frames)


def threshold_logit(trigger: TriggerConfig) -> float:
    """Returns the logit of the trigger's threshold, a finite number."""
    return float(logit(np.clip(trigger.threshold, 1e-6, 1 - 1e-6)))


@torch.inference_mode()
def head_logits(head: Head, frames: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
    """Returns the (num_frames,) logits of the first keyword for each of (num_frames, dim) `frames`."""
    head.eval()
    return [
        head(torch.from_numpy(window).float()[None], head.initial_cache())[0][0, :, 0].numpy().astype(np.float64)
        for window in frames
    ]
