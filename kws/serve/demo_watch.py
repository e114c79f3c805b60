"""One page's ear: a session's audio ─▶ scores ─▶ live trigger, and the last minutes kept for another threshold.

A `Watch` stands where a detector stands in a session. It may be without a wake word, so that takes of a first one can
be recorded, and its thresholds can be moved while it listens.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from kws.audio.samples import Waveform
from kws.detect.detector import Detection, Detector, Stream
from kws.detect.trigger import Trigger, smooth
from kws.frames import SAMPLE_RATE

KEPT_S = 180.0
"""Scores of so many seconds are kept for thresholds that are tried afterwards."""


class Piece(NamedTuple):
    """What a piece of audio brought.

    Attributes:
        waveform: (num_samples,) float32, 16 kHz.
        times_s: (num_frames,) end of each frame that it completed, in seconds since the stream's first sample.
        scores: (num_frames, num_keywords).
        smoothed: (num_frames, num_keywords) what the trigger compares with the threshold.
    """

    waveform: Waveform
    times_s: np.ndarray
    scores: np.ndarray
    smoothed: np.ndarray


class Watch:
    """Stands where a detector stands in a session: one stream at a time, whose thresholds may change on the way.

    Attributes:
        keywords: what is listened for; nothing without a detector.
        hop_s: seconds between two frames.

    Args:
        detector: the wake words that are chosen, if any are.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self.detector = detector
        self.keywords: list[str] = [] if detector is None else list(detector.keywords)
        self.hop_s = 0.0 if detector is None else detector.geometry.hop_s
        self._thresholds = [] if detector is None else list(detector.thresholds)
        self._pieces: list[Piece] = []
        self._kept: deque[Piece] = deque()
        self._begin()

    @property
    def thresholds(self) -> list[float]:
        """The threshold of each keyword, as it is set now."""
        return list(self._thresholds)

    def stream(self) -> WatchedStream:
        """Returns a fresh stream; the scores of the one before stay until `forget`."""
        self._begin()
        return WatchedStream(self)

    def forget(self) -> None:
        """Forgets the scores that were kept."""
        self._kept.clear()

    def set_threshold(self, keyword: str, threshold: float) -> None:
        """Has `keyword` fire at `threshold` from the next piece of audio on."""
        self._thresholds[self.keywords.index(keyword)] = threshold

    def collect(self, end_s: float) -> list[Piece]:
        """Returns what was heard since the last call, and keeps its scores.

        Args:
            end_s: where the audio heard so far ends, in seconds; later than the stream's own time by what was lost.
        """
        lost_s = end_s - self.num_samples / SAMPLE_RATE
        pieces = self._pieces
        self._pieces = []
        moved = [piece._replace(times_s=piece.times_s + lost_s) for piece in pieces]
        self._kept.extend(piece for piece in moved if len(piece.times_s))
        while self._kept and self._kept[0].times_s[-1] < end_s - KEPT_S:
            self._kept.popleft()
        return moved

    def would_fire(self, keyword: str, threshold: float) -> tuple[list[float], float]:
        """Returns when `keyword` would have fired at `threshold`, and how many seconds are remembered."""
        if self.detector is None or not self._kept:
            return [], 0.0
        column = self.keywords.index(keyword)
        trigger = Trigger(replace(self.detector.triggers[column], threshold=threshold), self.hop_s)
        times_s = np.concatenate([piece.times_s for piece in self._kept])
        firings = trigger.feed(np.concatenate([piece.scores[:, column] for piece in self._kept]))
        return [float(times_s[firing.frame]) for firing in firings], len(times_s) * self.hop_s

    def hear(self, waveform: Waveform, scores: np.ndarray) -> None:
        """Takes in the audio that was fed and the scores that it completed; called by the stream."""
        self.num_samples += waveform.size
        times_s: np.ndarray = np.zeros(0)
        if self.detector is not None and len(scores):
            first_s = self.detector.geometry.frame_end_s(self._num_frames)
            times_s = first_s + self.hop_s * np.arange(len(scores))
        self._num_frames += len(scores)
        self._pieces.append(Piece(waveform, times_s, scores, self._smoothed(scores)))

    def _smoothed(self, scores: np.ndarray) -> np.ndarray:
        smoothed = np.zeros_like(scores)
        for column, recent in enumerate(self._recent):
            joined = np.concatenate([recent, np.asarray(scores[:, column], np.float64)])
            smoothed[:, column] = smooth(joined, len(recent) + 1)
            self._recent[column] = joined[len(joined) - len(recent) :]
        return smoothed

    def _begin(self) -> None:
        triggers = [] if self.detector is None else self.detector.triggers
        self._recent: list[np.ndarray] = [np.zeros(trigger.smoothing_frames - 1) for trigger in triggers]
        self.num_samples = self._num_frames = 0
        self._pieces = []


class WatchedStream:
    """One stream through a `Watch`, as a session takes it."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._stream = None if watch.detector is None else _TunableStream(watch.detector)
        self.recent_scores = np.zeros(len(watch.keywords), np.float32)

    def feed(self, chunk: Any) -> list[Detection]:
        """Returns the keywords that fired, given the next `chunk`, (num_samples,) float32."""
        if self._stream is None:
            self._watch.hear(chunk, np.zeros((0, 0), np.float32))
            return []
        self._stream.tune(self._watch.thresholds)
        detections = self._stream.feed(chunk)
        self.recent_scores = self._stream.recent_scores
        self._watch.hear(chunk, self._stream.last_scores)
        return detections

    def flush(self) -> list[Detection]:
        """Returns what fires in the last frames."""
        return [] if self._stream is None else self._stream.flush()


class _TunableStream(Stream):
    """A stream whose thresholds can be moved, and that shows all scores of its last feed."""

    def tune(self, thresholds: list[float]) -> None:
        for trigger, threshold in zip(self._triggers, thresholds):
            if trigger.config.threshold != threshold:
                trigger.config = replace(trigger.config, threshold=threshold)

    def feed_scores(self, chunk: Any) -> np.ndarray:
        self.last_scores = super().feed_scores(chunk)
        return self.last_scores
