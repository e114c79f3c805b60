"""Which part of a clip made the decision: patches silenced one by one ─▶ how far the score falls ─▶ a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from kws.detect.detector import Detector
from kws.errors import AudioError
from kws.evaluate.metrics import smoothed_scores
from kws.evaluate.plots import EDGE, THEMES, dress, png
from kws.frames import SAMPLE_RATE
from kws.model.settings import TriggerConfig

PATCH_S = 0.12
STEP_S = 0.04
FADE_S = 0.01
"""Over which a patch is faded out and in, so that no click is heard."""
MAX_S = 10.0


@dataclass(frozen=True)
class Saliency:
    """What silencing each part of a clip does to the decision.

    Attributes:
        keyword: whose score.
        times_s: (num_patches,) middle of each patch.
        falls: (num_patches,) by how much the log odds of the highest smoothed score fall without it; below 0: it rises.
        scores: (num_frames,) smoothed scores of the whole clip.
        frame_times_s: (num_frames,) when each is known.
        peak: the highest of them.
    """

    keyword: str
    times_s: np.ndarray
    falls: np.ndarray
    scores: np.ndarray
    frame_times_s: np.ndarray
    peak: float

    @property
    def decisive_s(self) -> tuple[float, float]:
        """From where to where it was decided: the patches that cost at least half of what the worst does."""
        decisive = self.times_s[self.falls >= 0.5 * abs(self.falls.max())]
        if not len(decisive):  # the score rises whatever is silenced: nothing there speaks for the keyword
            return 0.0, float(self.times_s[-1]) + PATCH_S / 2
        return max(0.0, float(decisive[0]) - PATCH_S / 2), float(decisive[-1]) + PATCH_S / 2

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it for JSON."""
        return {
            "keyword": self.keyword,
            "peak": self.peak,
            "decisive_s": list(self.decisive_s),
            "times_s": self.times_s.round(3).tolist(),
            "falls": self.falls.round(3).tolist(),
        }


def occlude(detector: Detector, keyword: str, waveform: np.ndarray) -> Saliency:
    """Returns what each part of `waveform` adds to the decision for `keyword`.

    Source: occlusion, Zeiler & Fergus 2014, arXiv:1311.2901, §4.2, over time in place of over an image. It asks the
    detector alone, so any back end will do.

    Args:
        detector: what decides.
        keyword: one of its keywords.
        waveform: (num_samples,) float32, 16 kHz.

    Raises:
        AudioError: the clip is shorter than a patch, or longer than ten seconds.
    """
    duration_s = len(waveform) / SAMPLE_RATE
    if not PATCH_S < duration_s <= MAX_S:
        raise AudioError(f"the clip lasts {duration_s:.2f} s; saliency needs one of {PATCH_S:g} to {MAX_S:g} s: cut it")
    column = detector.keywords.index(keyword)
    trigger = detector.triggers[column]
    scores = _scores(detector, column, trigger, waveform)
    times_s = np.arange(PATCH_S / 2, duration_s - PATCH_S / 2 + 1e-9, STEP_S)
    without = [_scores(detector, column, trigger, silenced(waveform, time_s)).max() for time_s in times_s]
    frame_times_s = np.array([detector.geometry.frame_end_s(frame) for frame in range(len(scores))])
    falls = _log_odds(scores.max()) - _log_odds(np.array(without))
    return Saliency(keyword, times_s, falls, scores, frame_times_s, float(scores.max()))


def silenced(waveform: np.ndarray, middle_s: float) -> np.ndarray:
    """Returns `waveform` with a patch around `middle_s` faded to silence."""
    times_s = np.arange(len(waveform)) / SAMPLE_RATE
    distance_s = np.abs(times_s - middle_s)
    gain = np.clip((distance_s - (PATCH_S / 2 - FADE_S)) / FADE_S, 0, 1)
    return (waveform * gain).astype(np.float32)


def draw_saliency(saliency: Saliency, waveform: np.ndarray, theme: str = "light") -> bytes:
    """Returns a PNG: the waveform, coloured by what silencing each part costs, and the score under it."""
    from matplotlib.figure import Figure

    look = THEMES[theme]
    figure = Figure(figsize=(8, 4.2), layout="constrained", facecolor=look["paper"])
    above, below = figure.subplots(2, 1, sharex=True)
    for axes in (above, below):
        dress(axes, theme)
    times_s = np.arange(len(waveform)) / SAMPLE_RATE
    limit = max(float(np.abs(waveform).max()), 1e-6)
    reach = max(float(np.abs(saliency.falls).max()), 1e-6)
    edges = np.append(saliency.times_s - STEP_S / 2, saliency.times_s[-1] + STEP_S / 2)
    colours = above.pcolormesh(
        edges, [-limit, limit], saliency.falls[None], cmap="PuOr_r", vmin=-reach, vmax=reach, alpha=0.8
    )
    above.plot(times_s, waveform, color=look["ink"], linewidth=0.5)
    above.set_yticks([])
    bar = figure.colorbar(colours, ax=above)
    bar.set_label("fall of the log odds", color=look["ink"])
    bar.ax.tick_params(colors=look["ink"])
    start_s, end_s = saliency.decisive_s
    above.set_title(f"'{saliency.keyword}': decided by {start_s:.2f} to {end_s:.2f} s", color=look["ink"], fontsize=11)
    below.plot(saliency.frame_times_s, saliency.scores, color=look["colours"][0], linewidth=2)
    below.set_ylim(0, 1)
    below.set_ylabel("smoothed score")
    below.yaxis.label.set_color(look["ink"])
    below.set_xlabel("seconds")
    return png(figure, 80)


def _scores(detector: Detector, column: int, trigger: TriggerConfig, waveform: np.ndarray) -> np.ndarray:
    return smoothed_scores(detector.scores(waveform)[:, column], trigger)


def _log_odds(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, EDGE, 1 - EDGE))
