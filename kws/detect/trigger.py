"""The trigger: scores a frame ─▶ smoothing ─▶ threshold ─▶ consecutive frames ─▶ refractory period ─▶ firings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kws.model.settings import TriggerConfig

ROUNDING = 1e-6
"""By how much a computed mean may exceed the largest of its values, generously."""

LOWEST_SCORE = 1e-7
"""Scores count as at least this much, and as at most as far from 1, so that their logits are finite."""


class Firing(NamedTuple):
    """One firing: the frame (counted from the stream's start) and the smoothed score there."""

    frame: int
    score: float


class Trigger:
    """The trigger of one keyword in one stream; what live detection, training and evaluation all count with.

    Args:
        config: thresholds and periods.
        hop_s: seconds between two frames.
    """

    def __init__(self, config: TriggerConfig, hop_s: float) -> None:
        self.config = config
        self.refractory_frames = round(config.refractory_s / hop_s)
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen."""
        self._recent = np.zeros(self.config.smoothing_frames - 1, np.float64)
        self._num_frames = 0
        self._run_length = 0
        self._blocked_until = 0

    def feed(self, scores: np.ndarray) -> list[Firing]:
        """Returns the firings in the next `scores` (num_frames,), 0 to 1; before the first frame they were 0."""
        joined = np.concatenate([self._recent, scores])
        smoothed = smooth(joined, self.config.smoothing_frames)
        self._recent = joined[len(scores) :]
        return self.feed_smoothed(smoothed)

    def skip_to(self, frame: int, recent: np.ndarray) -> None:
        """Passes over the frames up to `frame`, none of which can fire; `recent` are the last scores before it."""
        if frame > self._num_frames:
            self._recent = recent[len(recent) - len(self._recent) :]
            self._num_frames, self._run_length = frame, 0

    def feed_smoothed(self, smoothed: np.ndarray) -> list[Firing]:
        """Returns the firings in the next scores, smoothed already (evaluation sweeps thresholds over them)."""
        if not len(smoothed):
            return []
        frames = np.arange(len(smoothed))
        is_above = smoothed >= self.config.threshold
        last_below = np.maximum.accumulate(np.where(is_above, -1 - self._run_length, frames))
        run_lengths = frames - last_below  # how many frames in a row reached the threshold
        candidates = np.flatnonzero(run_lengths >= self.config.consecutive_frames)
        firings, position = [], 0
        while True:
            position = max(position, int(np.searchsorted(candidates, self._blocked_until - self._num_frames)))
            if position >= len(candidates):
                break
            frame = int(candidates[position])
            firings.append(Firing(self._num_frames + frame, float(smoothed[frame])))
            self._blocked_until = self._num_frames + frame + max(1, self.refractory_frames)
        self._run_length = int(run_lengths[-1])
        self._num_frames += len(smoothed)
        return firings


def smooth(scores: np.ndarray, num_frames: int) -> np.ndarray:
    """Returns the means of every `num_frames` neighbouring scores: len(scores) − num_frames + 1 values, 0 to 1.

    Of one keyword (len(scores),), or of several at once (len(scores), num_keywords).

    They are means of logits: what speaks for the phrase in some frames has to outweigh what speaks against it in
    others, and a score that is near 1 for a moment does not fire. Measured in recipes/wake-words.
    """
    if num_frames == 1:
        return np.asarray(scores, np.float64)
    clipped = np.clip(np.asarray(scores, np.float64), LOWEST_SCORE, 1 - LOWEST_SCORE)
    return 1 / (1 + np.exp(-moving_mean(np.log(clipped / (1 - clipped)), num_frames)))


def moving_mean(values: np.ndarray, num_frames: int) -> np.ndarray:
    """Returns the mean of every `num_frames` neighbouring values: len(values) − num_frames + 1 of them."""
    if len(values) < num_frames:
        return np.zeros((0, *values.shape[1:]))
    return np.lib.stride_tricks.sliding_window_view(values, num_frames, axis=0).mean(axis=-1)
