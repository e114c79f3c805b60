"""What every speech synthesiser takes and gives: `Voice` + text ──▶ `Speech`, the waveform with its known timings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import soxr

from kws.errors import SynthesisError
from kws.frames import SAMPLE_RATE

_SILENCE_DB = -45.0
_SILENCE_HOP_S = 0.005

RATE_RANGE = (0.5, 2.0)
PITCH_RANGE = (0.5, 2.0)
PITCH_SPREAD_RANGE = (0.0, 2.0)
TRACT_RANGE = (0.8, 1.25)
FACTORS = frozenset({"rate", "pitch", "pitch_range", "tract"})


@dataclass(frozen=True)
class Segment:
    """A word or phone and where it lies, in seconds from the start of its waveform."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class Speech:
    """Synthesised speech.

    Attributes:
        waveform: (num_samples,) float32 in −1..1, 16 kHz, without silence at either end.
        words: the words in order, empty where the synthesiser doesn't tell.
        phones: the phones in order, in the synthesiser's own notation, empty where it doesn't tell.
    """

    waveform: np.ndarray
    words: tuple[Segment, ...] = ()
    phones: tuple[Segment, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the waveform in seconds."""
        return len(self.waveform) / SAMPLE_RATE


@dataclass(frozen=True)
class Voice:
    """A speaker: a synthesiser's voice and how far it is bent. All factors are 1 for the voice as it comes.

    Attributes:
        synthesizer: `name` of the synthesiser that owns the voice.
        name: one of that synthesiser's `voices()`.
        rate: tempo factor, 0.5..2; 2 is twice as fast.
        pitch: factor on the fundamental frequency, 0.5..2.
        pitch_range: factor on the liveliness of the intonation, 0..2; 0 is monotone.
        tract: vocal-tract length factor, 0.8..1.25; a longer tract has lower formants.

    Raises:
        SynthesisError: a factor outside its range.
    """

    synthesizer: str
    name: str
    rate: float = 1.0
    pitch: float = 1.0
    pitch_range: float = 1.0
    tract: float = 1.0

    def __post_init__(self) -> None:
        ranges = {"rate": RATE_RANGE, "pitch": PITCH_RANGE, "pitch_range": PITCH_SPREAD_RANGE, "tract": TRACT_RANGE}
        for key, (low, high) in ranges.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise SynthesisError(f"voice {key} = {value} is impossible; allowed: {low} to {high}")


class Synthesizer(Protocol):
    """Anything that speaks. Implement these and pass it wherever a synthesiser is taken.

    Attributes:
        name: what `Voice.synthesizer` refers to.
        factors: the fields of `Voice` it honours, out of "rate", "pitch", "pitch_range" and "tract".
        speaks_phones: whether it takes phones in eSpeak's `[[...]]` notation as text.
    """

    name: str
    factors: frozenset[str]
    speaks_phones: bool

    def voices(self) -> list[str]:
        """Returns the names that `Voice.name` can take."""
        ...

    def say(self, text: str, voice: Voice) -> Speech:
        """Returns `text` spoken by `voice`.

        Raises:
            SynthesisError: an unknown voice, a factor it doesn't honour, or text that can't be spoken.
        """
        ...


def is_phone_input(text: str) -> bool:
    """Returns whether `text` is phones in eSpeak's `[[...]]` notation."""
    return text.lstrip().startswith("[[")


def check_factors(voice: Voice, synthesizer: Synthesizer) -> None:
    """Raises a `SynthesisError` if `voice` is bent in a way that `synthesizer` doesn't honour."""
    for key in FACTORS - synthesizer.factors:
        if getattr(voice, key) != 1.0:
            raise SynthesisError(
                f"the synthesiser {synthesizer.name!r} can't change {key} (asked: {getattr(voice, key)}); leave it at 1"
            )


def finish(
    waveform: np.ndarray,
    sample_rate: float,
    voice: Voice,
    words: tuple[Segment, ...] = (),
    phones: tuple[Segment, ...] = (),
) -> Speech:
    """Returns raw synthesiser output as `Speech`: tract applied, 16 kHz, ends trimmed, timings shifted along.

    Reading the samples as if recorded at `sample_rate / tract` moves every formant by `1 / tract` and stretches time by
    `tract`; the synthesiser must have spoken `tract` times faster, and higher, for tempo and pitch to stay.

    Args:
        waveform: (num_raw_samples,) float32 in −1..1.
        sample_rate: of `waveform`, in Hz.
        voice: only its `tract` matters here.
        words: timed in `waveform`.
        phones: timed in `waveform`.

    Raises:
        SynthesisError: the waveform is silent.
    """
    resampled = soxr.resample(waveform, sample_rate / voice.tract, SAMPLE_RATE).astype(np.float32, copy=False)
    start, end = _active_bounds(resampled)
    trimmed = np.clip(resampled[start:end], -1.0, 1.0)
    return Speech(
        trimmed,
        tuple(_moved(segment, voice.tract, start, end) for segment in words),
        tuple(_moved(segment, voice.tract, start, end) for segment in phones),
    )


def _active_bounds(waveform: np.ndarray) -> tuple[int, int]:
    hop = round(_SILENCE_HOP_S * SAMPLE_RATE)
    padded = np.zeros(-(-len(waveform) // hop) * hop, np.float32)
    padded[: len(waveform)] = waveform
    peaks = np.abs(padded).reshape(-1, hop).max(axis=1) if len(padded) else np.zeros(0)
    if not len(peaks) or peaks.max() < 1e-3:
        raise SynthesisError("the synthesiser gave silence; use a text with pronounceable words")
    active = np.flatnonzero(peaks > peaks.max() * 10 ** (_SILENCE_DB / 20))
    return int(active[0]) * hop, min(int(active[-1] + 1) * hop, len(waveform))


def _moved(segment: Segment, stretch: float, start: int, end: int) -> Segment:
    offset_s, duration_s = start / SAMPLE_RATE, (end - start) / SAMPLE_RATE
    moved_start_s = min(max(segment.start_s * stretch - offset_s, 0.0), duration_s)
    moved_end_s = min(max(segment.end_s * stretch - offset_s, moved_start_s), duration_s)
    return replace(segment, start_s=moved_start_s, end_s=moved_end_s)
