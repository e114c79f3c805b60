"""The trigger on hand-written scores."""

from __future__ import annotations

import numpy as np
import pytest

from kws.detect.trigger import LOWEST_SCORE, Trigger, smooth
from kws.model.settings import TriggerConfig

HOP_S = 0.02


def frames_fired(scores, **config) -> list[int]:
    settings = {"threshold": 0.5, "smoothing_frames": 1, "consecutive_frames": 1, "refractory_s": 0.0} | config
    return [firing.frame for firing in Trigger(TriggerConfig(**settings), HOP_S).feed(np.array(scores, float))]


def test_fires_at_and_above_the_threshold():
    assert frames_fired([0.49, 0.5, 0.3, 0.9]) == [1, 3]


def test_without_a_refractory_period_every_frame_above_fires():
    assert frames_fired([0.6, 0.7, 0.1, 0.8]) == [0, 1, 3]


def test_smoothing_is_a_mean_of_logits_with_zeros_before_the_start():
    assert frames_fired([0.9, 0.9, 0.9, 0.9], smoothing_frames=3, threshold=0.6) == [2, 3]
    assert frames_fired([0.9, 0.1, 0.9, 0.1], smoothing_frames=3, threshold=0.6) == [2]
    assert frames_fired([1.0, 1.0, 1.0, 0.0, 0.0], smoothing_frames=3, threshold=0.4) == [1, 2, 3]


def test_what_speaks_against_the_phrase_outweighs_as_much_that_speaks_for_it():
    assert frames_fired([0.6, 0.6, 0.0001], smoothing_frames=3, threshold=0.35) == []  # their mean is 0.4
    assert frames_fired([0.6, 0.6, 0.0001], smoothing_frames=3, threshold=0.05) == [2]


def test_consecutive_frames_count_from_the_first_above():
    scores = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]
    assert frames_fired(scores, consecutive_frames=3) == [5, 6]
    assert frames_fired(scores, consecutive_frames=8) == []


def test_refractory_period_blocks_and_then_ends():
    assert frames_fired([0.9] * 10, refractory_s=4 * HOP_S) == [0, 4, 8]
    assert frames_fired([0.9, 0, 0, 0.9, 0.9], refractory_s=4 * HOP_S) == [0, 4]


def test_firing_carries_the_smoothed_score():
    trigger = Trigger(TriggerConfig(threshold=0.4, smoothing_frames=2, refractory_s=1.0), HOP_S)
    (firing,) = trigger.feed(np.array([0.2, 0.8, 1.0]))
    assert (firing.frame, firing.score) == (1, pytest.approx(0.5))


def test_frames_count_from_the_start_of_the_stream_and_reset_starts_again():
    trigger = Trigger(TriggerConfig(smoothing_frames=1, refractory_s=0.1), HOP_S)
    assert [firing.frame for firing in trigger.feed(np.array([0.0, 0.9]))] == [1]
    assert [firing.frame for firing in trigger.feed(np.array([0.9] * 5))] == [6]
    trigger.reset()
    assert [firing.frame for firing in trigger.feed(np.array([0.9]))] == [0]


CONFIGS = [
    TriggerConfig(threshold=0.5, smoothing_frames=smoothing, consecutive_frames=consecutive, refractory_s=refractory)
    for smoothing in (1, 3, 10)
    for consecutive in (1, 4)
    for refractory in (0.0, 0.1, 1.0)
]


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.smoothing_frames}-{c.consecutive_frames}-{c.refractory_s}"
)
def test_chunks_change_nothing_and_feed_equals_feed_smoothed(config):
    generator = np.random.default_rng(0)
    scores = smooth(generator.random(1_204), 5)  # 1,200 scores that stay above or below for a while
    whole = Trigger(config, HOP_S).feed(scores)
    for sizes in ([1] * 1_200, [7] * 172, generator.integers(0, 60, 200)):
        trigger, ends = Trigger(config, HOP_S), np.cumsum(sizes)
        pieces = [trigger.feed(piece) for piece in np.split(scores, ends[ends < 1_200])]
        assert [firing.frame for piece in pieces for firing in piece] == [firing.frame for firing in whole]
    smoothed = smooth(np.concatenate([np.zeros(config.smoothing_frames - 1), scores]), config.smoothing_frames)
    assert Trigger(config, HOP_S).feed_smoothed(smoothed) == whole


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.smoothing_frames}-{c.consecutive_frames}-{c.refractory_s}"
)
def test_equals_the_rule_written_frame_by_frame(config):
    scores = smooth(np.random.default_rng(1).random(404), 5)
    padded = np.concatenate([np.full(config.smoothing_frames - 1, LOWEST_SCORE), scores])
    expected, run, blocked_until = [], 0, 0
    for frame in range(len(scores)):
        recent = padded[frame : frame + config.smoothing_frames]
        odds = np.prod(recent / (1 - recent)) ** (1 / len(recent))
        run = run + 1 if odds >= config.threshold / (1 - config.threshold) else 0
        if run >= config.consecutive_frames and frame >= blocked_until:
            expected.append(frame)
            blocked_until = frame + round(config.refractory_s / HOP_S)
    assert [firing.frame for firing in Trigger(config, HOP_S).feed(scores)] == expected
