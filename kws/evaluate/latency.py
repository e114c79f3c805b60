"""Latency: from the word's end, by energy, to the moment a live stream gives the detection.

clip ─▶ level every 10 ms ─▶ end of the last stretch of speech ─┐
detector ─▶ when each frame's score comes out of a live stream ─┴▶ seconds between the two
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kws.detect.detector import Detector
from kws.detect.trigger import Trigger
from kws.frames import SAMPLE_RATE
from kws.model.settings import TriggerConfig

LEVEL_HOP_S = 0.01
LEVEL_WINDOW_S = 0.02
SPEECH_DB = 25.0
"""Speech is within so much of the clip's loudest 20 ms, in dB: the fading end of a vowel is in, its echo mostly not."""
MARGIN_DB = 8.0
"""And so much above the clip's own background, in dB."""
LEAST_RANGE_DB = 20.0
"""A clip whose loudest part is less than this above its background doesn't tell where its word ends."""
LEAST_STRETCH_S = 0.06
"""Shorter stretches are clicks."""
BACKGROUND_PERCENTILE = 10
PERCENTILES = (50, 90)


@dataclass(frozen=True)
class Latency:
    """Seconds from the word's end to the detection.

    Attributes:
        delays_s: one for each detected clip whose word's end can be told.
        num_unclear: detected clips whose word's end can't.
    """

    delays_s: tuple[float, ...]
    num_unclear: int

    def percentile_s(self, percentile: float) -> float:
        """Returns a percentile of the delays, in seconds; NaN without any."""
        return float(np.percentile(self.delays_s, percentile)) if self.delays_s else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Returns median, 90th percentile and counts, for JSON; null where nothing was measured."""
        median_s, ninetieth_s = (self.percentile_s(percentile) if self.delays_s else None for percentile in PERCENTILES)
        return {
            "median_s": median_s,
            "percentile_90_s": ninetieth_s,
            "num_measured": len(self.delays_s),
            "num_unclear": self.num_unclear,
            "word_end": f"end of the last {LEAST_STRETCH_S * 1000:.0f} ms or more within {SPEECH_DB:g} dB of the peak",
        }


def word_end_s(waveform: np.ndarray) -> float | None:
    """Returns where the speech in `waveform` (num_samples,) ends, in seconds; None if its background hides that.

    Nothing of the detector goes into it, so that it favours none. It takes all sound after the word for speech: use it
    on recordings of the word alone, before noise is added.
    """
    levels_db = _levels_db(waveform)
    if not len(levels_db):
        return None
    peak_db, background_db = levels_db.max(), np.percentile(levels_db, BACKGROUND_PERCENTILE)
    if peak_db - background_db < LEAST_RANGE_DB:
        return None
    is_speech = levels_db >= max(peak_db - SPEECH_DB, background_db + MARGIN_DB)
    edges = np.flatnonzero(np.diff(is_speech.astype(int), prepend=0, append=0))
    long_enough = [end for start, end in edges.reshape(-1, 2) if (end - start) * LEVEL_HOP_S >= LEAST_STRETCH_S]
    if not long_enough:
        return None
    return float(min((long_enough[-1] - 1) * LEVEL_HOP_S + LEVEL_WINDOW_S, len(waveform) / SAMPLE_RATE))


def arrivals_s(detector: Detector, num_frames: int) -> np.ndarray:
    """Returns (num_frames,) when a live stream gives each frame's score, in seconds of audio heard by then.

    Encoders work in blocks or windows, so a score comes later than its frame ends. When doesn't depend on the sound;
    computing time is not in it.
    """
    stream, hop = detector.stream(), detector.geometry.hop
    arrivals: list[float] = []
    num_samples = 0
    while len(arrivals) < num_frames:
        num_samples += hop
        arrivals += [num_samples / SAMPLE_RATE] * len(stream.feed_scores(np.zeros(hop, np.float32)))
    return np.array(arrivals[:num_frames])


def measure_latency(
    scores: Sequence[np.ndarray],
    ends_s: Sequence[float | None],
    trigger: TriggerConfig,
    hop_s: float,
    arrivals: np.ndarray,
) -> Latency:
    """Returns the latency over the clips in which the trigger fires; of several firings the nearest to the end counts.

    Args:
        scores: (num_frames,) of each clip.
        ends_s: where each clip's word ends, in the time of its scores, or None.
        trigger: with the threshold to measure at.
        hop_s: seconds between two frames.
        arrivals: from `arrivals_s`, as long as the longest of `scores`.
    """
    delays_s, num_unclear = [], 0
    for clip, end_s in zip(scores, ends_s):
        firings = Trigger(trigger, hop_s).feed(clip)
        if not firings:
            continue
        if end_s is None:
            num_unclear += 1
            continue
        delays_s.append(min((float(arrivals[firing.frame]) - end_s for firing in firings), key=abs))
    return Latency(tuple(delays_s), num_unclear)


def _levels_db(waveform: np.ndarray) -> np.ndarray:
    window, hop = round(LEVEL_WINDOW_S * SAMPLE_RATE), round(LEVEL_HOP_S * SAMPLE_RATE)
    if len(waveform) < window:
        return np.zeros(0)
    pieces = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), window)[::hop]
    return 10 * np.log10(np.maximum(np.mean(pieces**2, axis=1), 1e-12))
