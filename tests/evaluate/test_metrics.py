"""Metrics on hand-computed cases."""

import numpy as np
import pytest

from kws.evaluate.metrics import (
    OperatingPoint,
    count_firings,
    det_curve,
    point_at,
    poisson_interval,
    wilson_interval,
)
from kws.model.settings import TriggerConfig

HOP_S = 0.02
TRIGGER = TriggerConfig(threshold=0.5, smoothing_frames=1, refractory_s=1.0)


def scores_with(peaks, num_frames=500):
    scores = np.zeros(num_frames)
    for frame, height in peaks.items():
        scores[frame] = height
    return scores


def test_counts_obey_the_refractory_period():
    assert count_firings(scores_with({10: 0.9, 40: 0.9, 100: 0.9}), TRIGGER, HOP_S) == 2  # 40 is 0.6 s after 10


def test_det_curve_by_hand():
    positives = [scores_with({50: 0.9}), scores_with({50: 0.6}), scores_with({50: 0.2})]
    negatives = [scores_with({10: 0.7, 200: 0.3}, num_frames=180_000)]  # one hour
    low, middle, high = det_curve(positives, negatives, TRIGGER, HOP_S, [0.25, 0.5, 0.8])
    assert (low.num_missed, low.num_false_alarms) == (1, 2)
    assert (middle.num_missed, middle.num_false_alarms) == (1, 1)
    assert (high.num_missed, high.num_false_alarms) == (2, 0)
    assert low.hours == pytest.approx(1.0)
    assert low.false_alarms_per_hour == pytest.approx(2.0)


def test_point_at_takes_the_lowest_threshold_that_stays_under_the_rate():
    points = [OperatingPoint(0.1 * i, i, 10, alarms, 1.0) for i, alarms in enumerate((9, 2, 3, 1, 0))]
    assert point_at(points, 2).threshold == pytest.approx(0.3)  # 0.1 has 2 too, but 0.2 has 3
    assert point_at(points, 0.5).threshold == pytest.approx(0.4)
    assert point_at(points, 100).threshold == 0


def test_intervals_against_published_values():
    low, high = wilson_interval(1, 10)
    assert (low, high) == pytest.approx((0.0179, 0.4042), abs=1e-3)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert poisson_interval(0, 1.0) == pytest.approx((0, 3.689), abs=1e-3)
    assert poisson_interval(5, 2.0) == pytest.approx((1.623 / 2, 11.668 / 2), abs=1e-3)
    assert poisson_interval(3, 0.0) == (0.0, float("inf"))
