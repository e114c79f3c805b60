"""Training windows: speakers' clips ─▶ placed at random ─▶ a room ─▶ noise at a drawn SNR ─▶ a microphone and level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws.config import check
from kws.data.augment import AugmentConfig, Augmenter
from kws.data.mix import NoiseSource
from kws.data.pool import Speaker, Take
from kws.frames import SAMPLE_RATE

NO_END = -1
"""End sample of a window that doesn't hold the phrase."""


@dataclass(frozen=True)
class WindowConfig:
    """How windows are composed.

    Attributes:
        duration_s: length of a window, in seconds.
        num_positives: windows that hold the phrase.
        num_negatives: windows that don't.
        recorded: share of the positives drawn from recordings of the phrase alone, where there are any.
        lead_in: share of the positives with other speech right before the phrase.
        follow_up: share of the positives with other speech after it.
        real_share: share of the speech in negatives that comes from the user's own recordings, where there are any.
        noise_only: share of the negatives without speech.
        confusable: share of the negatives with a near miss or a part of the phrase.
        parts: share of the negatives, if no longer than positives, in which some words of a phrase of several stand
            where positives have all of them.
        close: the same, of a phrase of a single word, with other words that come close to it.
    """

    duration_s: float = 3.2
    num_positives: int = 3000
    num_negatives: int = 4500
    recorded: float = 0.5
    lead_in: float = 0.5
    follow_up: float = 0.3
    real_share: float = 0.6
    noise_only: float = 0.08
    confusable: float = 0.15
    parts: float = 0.3
    close: float = 0.2

    def __post_init__(self) -> None:
        check(1 <= self.duration_s <= 30, "windows.duration_s", self.duration_s, "1 to 30 seconds")
        for name in ("num_positives", "num_negatives"):
            check(1 <= getattr(self, name) <= 10_000_000, f"windows.{name}", getattr(self, name), "1 or more")
        for name in ("recorded", "lead_in", "follow_up", "real_share", "noise_only", "confusable", "parts", "close"):
            check(0 <= getattr(self, name) <= 1, f"windows.{name}", getattr(self, name), "0 to 1")


@dataclass(frozen=True)
class Window:
    """One composed window.

    Attributes:
        waveform: (num_samples,) float32.
        end_sample: where the phrase ends, `NO_END` if it isn't there.
    """

    waveform: np.ndarray
    end_sample: int


class WindowComposer:
    """Composes windows from a pool of speakers; positives and negatives share voices, rooms, noises and levels.

    Args:
        speakers: synthesised speakers, and the user's recordings of the phrase as speakers without other speech.
        background: (num_samples,) recordings of other real speech, possibly none.
        noise: what is mixed in.
        config: composition.
        augment: rooms, microphones, levels.
        rirs: (num_samples,) recorded impulse responses, possibly none.
    """

    def __init__(
        self,
        speakers: Sequence[Speaker],
        background: Sequence[np.ndarray],
        noise: NoiseSource,
        config: WindowConfig,
        augment: AugmentConfig,
        rirs: Sequence[np.ndarray] = (),
    ) -> None:
        self.speakers = speakers
        self.talkers = [speaker for speaker in speakers if speaker.sentences]
        self.with_phrase = [speaker for speaker in speakers if speaker.phrases]
        self.recorded = [speaker for speaker in self.with_phrase if not speaker.sentences]
        self.with_parts = [speaker for speaker in speakers if speaker.parts]
        self.with_close = [speaker for speaker in speakers if speaker.close]
        self.confusing = [speaker for speaker in speakers if speaker.confusables]
        self.background = background
        self.noise = noise
        self.config = config
        self.augmenter = Augmenter(augment, rirs)
        self.num_samples = round(config.duration_s * SAMPLE_RATE)

    def positive(self, rng: np.random.Generator) -> Window:
        """Returns a window that holds the phrase once."""
        is_recorded = bool(self.recorded) and rng.random() < self.config.recorded
        speaker = _pick(self.recorded if is_recorded else self.with_phrase, rng)
        canvas, end = self._said(_pick(speaker.phrases, rng), speaker, rng)
        return Window(self._finish(canvas, rng), end)

    def _said(self, take: Take, speaker: Speaker, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Returns a window of `take`, perhaps with other speech around it, and the sample at which it ends."""
        canvas = np.zeros(self.num_samples, np.float32)
        end = self._place_take(canvas, take, rng)
        start = end - round(take.end_s * SAMPLE_RATE)
        if rng.random() < self.config.lead_in:
            self._fill_before(canvas, start - _gap(rng, 0.03, 0.5), speaker, rng)
        if rng.random() < self.config.follow_up and len(take.waveform) <= round(take.end_s * SAMPLE_RATE) + 800:
            self._fill_after(canvas, end + _gap(rng, 0.1, 0.8), speaker, rng)
        return canvas, end

    def negative(self, rng: np.random.Generator, duration_s: float | None = None) -> Window:
        """Returns a window (or, with `duration_s`, longer audio) in which the phrase is never said."""
        if duration_s is None and self.with_parts and rng.random() < self.config.parts:
            speaker = _pick(self.with_parts, rng)
            return self._instead(_pick(speaker.parts, rng), speaker, rng)
        if duration_s is None and self.with_close and rng.random() < self.config.close:
            speaker = _pick(self.with_close, rng)
            return self._instead(_pick(speaker.close, rng), speaker, rng)
        num_samples = round((duration_s or self.config.duration_s) * SAMPLE_RATE)
        canvas = np.zeros(num_samples, np.float32)
        if rng.random() >= self.config.noise_only:
            if self.background and rng.random() < self.config.real_share:
                self._fill_real(canvas, rng)
            else:
                self._fill_spoken(canvas, rng)
        return Window(self._finish(canvas, rng), NO_END)

    def _instead(self, take: Take, speaker: Speaker, rng: np.random.Generator) -> Window:
        """Returns a window in which `take`, not the phrase, stands where the phrase does in positives."""
        canvas, _ = self._said(take, speaker, rng)
        return Window(self._finish(canvas, rng), NO_END)

    def _finish(self, canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.augmenter.apply(canvas, self.noise, rng)

    def _place_take(self, canvas: np.ndarray, take: Take, rng: np.random.Generator) -> int:
        """Adds `take` at a random place and returns the sample at which its phrase ends."""
        phrase = round(take.end_s * SAMPLE_RATE)
        latest = len(canvas) - round(0.35 * SAMPLE_RATE)
        end = int(rng.integers(min(phrase + 800, latest), latest + 1))
        _add(canvas, take.waveform * _level(rng), end - phrase)
        return end

    def _fill_before(self, canvas: np.ndarray, until: int, speaker: Speaker, rng: np.random.Generator) -> None:
        clip = self._other_speech(speaker, rng)
        _add(canvas[: max(0, until)], clip * _level(rng), until - len(clip))

    def _fill_after(self, canvas: np.ndarray, start: int, speaker: Speaker, rng: np.random.Generator) -> None:
        _add(canvas, self._other_speech(speaker, rng) * _level(rng), start)

    def _other_speech(self, speaker: Speaker, rng: np.random.Generator) -> np.ndarray:
        """Returns other speech, of the same speaker where he said any."""
        if speaker.sentences:
            return _pick(speaker.sentences, rng)
        if self.background:
            return _crop(_pick(self.background, rng), 2 * SAMPLE_RATE, rng)
        return _pick(_pick(self.talkers, rng).sentences, rng)

    def _fill_real(self, canvas: np.ndarray, rng: np.random.Generator) -> None:
        position = -int(rng.integers(0, SAMPLE_RATE))
        while position < len(canvas):
            clip = _crop(_pick(self.background, rng), len(canvas), rng)
            _add(canvas, clip, position)
            position += len(clip) + _gap(rng, 0.1, 0.6)

    def _fill_spoken(self, canvas: np.ndarray, rng: np.random.Generator) -> None:
        position = -int(rng.integers(0, SAMPLE_RATE))
        speaker = _pick(self.confusing or self.talkers, rng)
        has_confusable = bool(self.confusing) and rng.random() < self.config.confusable
        while position < len(canvas):
            is_confusable = has_confusable and rng.random() < 0.5
            clip = _pick(speaker.confusables if is_confusable else speaker.sentences or speaker.confusables, rng)
            _add(canvas, clip * _level(rng), position)
            position += len(clip) + _gap(rng, 0.03, 0.8)
            if rng.random() < 0.2:
                speaker = _pick(self.confusing or self.talkers, rng)


def _pick(items: Sequence, rng: np.random.Generator):
    return items[int(rng.integers(len(items)))]


def _gap(rng: np.random.Generator, low_s: float, high_s: float) -> int:
    return round(rng.uniform(low_s, high_s) * SAMPLE_RATE)


def _level(rng: np.random.Generator) -> np.float32:
    """Returns a factor for one utterance: nobody speaks at the same level twice."""
    return np.float32(10 ** (rng.uniform(-4, 4) / 20))


def _crop(clip: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    if len(clip) <= num_samples:
        return clip
    start = int(rng.integers(len(clip) - num_samples + 1))
    return clip[start : start + num_samples]


def _add(canvas: np.ndarray, clip: np.ndarray, start: int) -> None:
    """Adds the part of `clip` that falls on `canvas` when it begins at sample `start`."""
    clip = clip[max(0, -start) : max(0, len(canvas) - start)]
    start = max(0, start)
    canvas[start : start + len(clip)] += clip
