"""The threshold: chosen on held-out audio; the head's bias is moved so that it meets a rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from kws.evaluate.metrics import (
    REPORTED_FALSE_ALARMS_PER_HOUR,
    OperatingPoint,
    calibrating_shift,
    det_curve,
    point_at,
)
from kws.model.head import Head
from kws.model.settings import TriggerConfig
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE

NUM_TRACES = 6
"""Windows of each kind whose scores the report draws."""


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
        traces: (label, scores (num_frames,), frame of the phrase's end or −1) examples.
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
    """Shifts the bias of `head` in place so that `trigger.threshold` meets the rate, and returns what that gives."""
    negatives = head_logits(head, held_out.negatives.frames)
    shift = calibrating_shift(negatives, trigger, hop_s, false_alarms_per_hour)
    with torch.no_grad():
        head.output.bias.add_(shift)
    positive_scores = [expit(logits + shift) for logits in head_logits(head, held_out.positives.frames)]
    negative_scores = [expit(logits + shift) for logits in negatives]
    points = det_curve(positive_scores, negative_scores, trigger, hop_s)
    at_threshold = det_curve(positive_scores, negative_scores, trigger, hop_s, [trigger.threshold])[0]
    examples = zip(positive_scores[:NUM_TRACES], held_out.positives.end_frames)
    loudest = sorted(negative_scores, key=lambda scores: -scores.max())[:NUM_TRACES]
    traces: list[tuple[str, np.ndarray, int]] = [("with the phrase", scores, int(end)) for scores, end in examples]
    traces += [("without it", scores, NEGATIVE) for scores in loudest]
    return Calibrated(trigger.threshold, at_threshold, points, traces, false_alarms_per_hour)


@torch.inference_mode()
def head_logits(head: Head, frames: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
    """Returns the (num_frames,) logits of the first keyword for each of (num_frames, dim) `frames`."""
    head.eval()
    return [
        head(torch.from_numpy(window).float()[None], head.initial_cache())[0][0, :, 0].numpy().astype(np.float64)
        for window in frames
    ]
