"""Training's threshold: steady, and as strict as asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kws.model.head import Head
from kws.model.settings import HeadConfig, TriggerConfig
from kws.train.calibration import HeldOut, calibrate, tail_level
from kws.train.head_training import FrameSet
from kws.train.losses import NEGATIVE

HOP_S = 0.02
TRIGGER = TriggerConfig(threshold=0.5, smoothing_frames=6)


def exponential_traces(rng: np.random.Generator, num_traces: int) -> list[np.ndarray]:
    """Returns pieces of twenty seconds whose peaks, one a second and as long as the smoothing, are exponential."""
    traces = []
    for _ in range(num_traces):
        trace = np.full(1000, -10.0)
        for start in range(10, 1000, 50):
            trace[start : start + 10] = rng.exponential(2.0)
        traces.append(trace)
    return traces


@pytest.mark.parametrize("rate", [3.0, 12.0, 48.0])
def test_half_an_hour_says_what_more_audio_of_the_kind_would_exceed_so_often(rate):
    rng = np.random.default_rng(0)
    level = tail_level(exponential_traces(rng, 90), TRIGGER, rate, HOP_S)
    hours = 20.0
    num_above = int(np.sum(rng.exponential(2.0, round(hours * 3600)) > level))
    assert rate / 2 <= num_above / hours <= rate * 2


def test_the_level_hardly_moves_with_the_draw_of_the_audio():
    """Counted, two alarms in half an hour or three would be a step as wide as the exponential's scale."""
    levels = [
        tail_level(exponential_traces(rng, 90), TRIGGER, 4.0, HOP_S) for rng in map(np.random.default_rng, range(20))
    ]
    assert np.std(levels) < 0.8


def test_silence_everywhere_has_a_level():
    assert tail_level([np.full(1000, -7.0)], TRIGGER, 48.0, HOP_S) == pytest.approx(-7.0)


def test_calibration_moves_the_bias_to_the_level_and_measures_there():
    rng = np.random.default_rng(0)
    head = Head(4, 1, HeadConfig(hidden=8, members=1, kernel=3, dilation=1), 1)
    torch.nn.init.normal_(head.output.weight, std=3.0, generator=torch.Generator().manual_seed(0))
    negatives = FrameSet(rng.normal(size=(30, 1000, 4)).astype(np.float16), np.full(30, NEGATIVE))
    positives = FrameSet(rng.normal(size=(5, 100, 4)).astype(np.float16), np.full(5, 50))
    strict = calibrate(head, HeldOut(positives, negatives), TRIGGER, HOP_S, 10.0)
    loose = calibrate(head, HeldOut(positives, negatives), TRIGGER, HOP_S, 300.0)
    assert strict.at_threshold.threshold == loose.at_threshold.threshold == TRIGGER.threshold
    assert strict.at_threshold.num_false_alarms < loose.at_threshold.num_false_alarms
    again = calibrate(head, HeldOut(positives, negatives), TRIGGER, HOP_S, 300.0)
    assert again.at_threshold == loose.at_threshold, "calibrating twice changes nothing"
