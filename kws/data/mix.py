"""Speech over noise at a stated signal-to-noise ratio, and where the noise comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.fft import irfft, next_fast_len

from kws.audio.io import find_audio, read_audio
from kws.config import check
from kws.data.noises import made_noise
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

_ACTIVE_FRAME = round(0.02 * SAMPLE_RATE)
_ACTIVE_DB = -40.0
_ABSENT_DB = -20.0
_CACHED_FILES = 64
_NOISE_RMS = 0.1
_FULL_SCALE = 0.99

MADE_WEIGHT = 2.0
"""Weight of made noise where there are recordings of the phrase, which it helps against other noise."""


@dataclass(frozen=True)
class MixConfig:
    """What noise there is and how loud.

    Attributes:
        snr_db: (low, high) of the signal-to-noise ratio, drawn uniformly.
        clean_share: share of clips without noise.
        coloured_weight: how often noise is coloured, relative to the other weights.
        made_weight: how often it is one of the sounds of `kws.data.noises`; None is never, but in training with
            recordings of the phrase as often as `MADE_WEIGHT`.
        babble_weight: how often it is babble, where there are clips for it.
        recorded_weight: how often it is a recording, where there are any.
        beta: (low, high) of the exponent of coloured noise, 0 white to 2 brown.
        num_talkers: (low, high) number of voices in babble.

    Raises:
        ConfigError: a value outside its bounds.
    """

    snr_db: tuple[float, ...] = (0.0, 30.0)
    clean_share: float = 0.1
    coloured_weight: float = 1.0
    made_weight: float | None = None
    babble_weight: float = 1.0
    recorded_weight: float = 2.0
    beta: tuple[float, ...] = (0.0, 2.0)
    num_talkers: tuple[int, ...] = (3, 8)

    def __post_init__(self) -> None:
        for key, (low, high) in {"snr_db": (-30, 80), "beta": (-2, 4), "num_talkers": (1, 100)}.items():
            value = getattr(self, key)
            is_range = len(value) == 2 and low <= value[0] <= value[1] <= high
            check(is_range, key, value, f"two numbers, low and high, within {low}..{high}")
        check(0 <= self.clean_share <= 1, "clean_share", self.clean_share, "0..1")
        for key in ("coloured_weight", "made_weight", "babble_weight", "recorded_weight"):
            check((getattr(self, key) or 0) >= 0, key, getattr(self, key), "0 or more")

    def with_recordings(self) -> MixConfig:
        """Returns the settings for training with recordings of the phrase."""
        return self if self.made_weight is not None else replace(self, made_weight=MADE_WEIGHT)


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mix and its two parts, which sum to it: each (num_samples,) float32, within −1..1.

    Attributes:
        waveform: speech and noise.
        speech: the speech in it, scaled.
        noise: the noise in it, scaled.
    """

    waveform: np.ndarray
    speech: np.ndarray
    noise: np.ndarray


def mix_at_snr(
    speech: np.ndarray, noise: np.ndarray, snr_db: float, speech_active: np.ndarray | slice | None = None
) -> Mixture:
    """Returns `speech` with `noise` added so that their power ratio over the active part of the speech is `snr_db`.

    Args:
        speech: (num_samples,) float32; keeps its level unless the sum would clip, then both are scaled.
        noise: (any length,) float32; looped or cut to `num_samples`.
        snr_db: ratio of the mean powers over the active samples.
        speech_active: (num_samples,) bool, or a slice; default `active_speech(speech)`.

    Raises:
        AudioError: silent speech, or noise that is absent there: 20 dB or more below what it is where it sounds. Raised
            to `snr_db`, a sneeze before the word would drown everything.
    """
    active = active_speech(speech) if speech_active is None else speech_active
    looped = np.resize(noise, len(speech)) if len(noise) else np.zeros(len(speech), np.float32)
    speech_power, noise_power = _power(speech[active]), _power(looped[active])
    if speech_power == 0 or noise_power <= _power(looped[active_speech(looped)]) * 10 ** (_ABSENT_DB / 10):
        which = "speech is silent" if speech_power == 0 else "noise is silent where there is speech"
        raise AudioError(f"can't mix at {snr_db} dB: the {which}; leave this clip out")
    scaled = looped * np.float32(np.sqrt(speech_power / noise_power) * 10 ** (-snr_db / 20))
    peak = float(np.abs(speech + scaled).max())
    gain = np.float32(min(1.0, _FULL_SCALE / peak))
    spoken, noisy = (speech * gain).astype(np.float32), (scaled * gain).astype(np.float32)
    return Mixture(spoken + noisy, spoken, noisy)


def mix_first_heard(speech: np.ndarray, noises: Iterable[np.ndarray], snr_db: float) -> Mixture | None:
    """Returns `speech`, not silent, with the first of `noises` that is heard under it; None where not one is."""
    active = active_speech(speech)
    for noise in noises:
        with suppress(AudioError):
            return mix_at_snr(speech, noise, snr_db, active)
    return None


def active_speech(speech: np.ndarray) -> np.ndarray:
    """Returns (num_samples,) bool: the 20 ms frames within 40 dB of the loudest one."""
    num_frames = -(-len(speech) // _ACTIVE_FRAME)
    padded = np.zeros(num_frames * _ACTIVE_FRAME, np.float32)
    padded[: len(speech)] = speech
    powers = np.mean(padded.reshape(num_frames, _ACTIVE_FRAME).astype(np.float64) ** 2, axis=1)
    is_active = powers > powers.max(initial=0.0) * 10 ** (_ACTIVE_DB / 10)
    return np.repeat(is_active, _ACTIVE_FRAME)[: len(speech)]


def active_rms(speech: np.ndarray) -> float:
    """Returns the RMS of `speech`, (num_samples,) float32, where it is active; never 0."""
    return max(float(np.sqrt(_power(speech[active_speech(speech)]))), 1e-6)


def coloured_noise(num_samples: int, beta: float, rng: np.random.Generator) -> np.ndarray:
    """Returns (num_samples,) float32 noise of unit RMS whose power falls as 1 / f^beta: 0 white, 1 pink, 2 brown.

    Source: Timmer and König 1995, "On generating power law noise", Astronomy and Astrophysics 300.
    """
    size = next_fast_len(max(num_samples, 2), real=True)
    num_bins = size // 2 + 1
    spectrum = rng.standard_normal(num_bins, np.float32) + 1j * rng.standard_normal(num_bins, np.float32)
    bins = np.arange(num_bins, dtype=np.float32)
    bins[0] = np.inf  # no constant part
    spectrum *= bins ** np.float32(-beta / 2)
    noise = irfft(spectrum, size)[:num_samples]
    noise -= noise.mean()
    return (noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)).astype(np.float32)


class NoiseSource:
    """Draws noise: coloured, made, babble of speech clips, or pieces of recordings.

    Args:
        config: weights of the kinds and their ranges.
        babble: speech clips, (num_samples,) float32 each, of voices that may be heard in the background.
        recordings: audio files, folders of them, or waveforms, (num_samples,) float32 at 16 kHz.

    Raises:
        AudioError: a path that doesn't exist, or no audio in `recordings`.
        ConfigError: no kind of noise with a weight above zero.
    """

    def __init__(
        self,
        config: MixConfig = MixConfig(),
        babble: Sequence[np.ndarray] = (),
        recordings: Sequence[Path | str | np.ndarray] = (),
    ) -> None:
        self._config = config
        self._babble = [clip for clip in babble if np.any(clip)]
        paths = [item for item in recordings if not isinstance(item, np.ndarray)]
        self._recordings: list[Path | np.ndarray] = [*find_audio(paths)]
        if paths and not self._recordings:
            raise AudioError(f"no audio files in {', '.join(map(str, paths))}; name a folder that holds recordings")
        self._recordings += [item for item in recordings if isinstance(item, np.ndarray) and len(item)]
        weights = {"coloured": config.coloured_weight, "made": config.made_weight or 0.0}
        weights |= {"babble": config.babble_weight} if self._babble else {}
        weights |= {"recorded": config.recorded_weight} if self._recordings else {}
        check(sum(weights.values()) > 0, "noise weights", weights, "one above 0 among the kinds that are given")
        self._kinds = list(weights)
        self._shares = np.array(list(weights.values())) / sum(weights.values())

    def draw_snr_db(self, rng: np.random.Generator) -> float | None:
        """Returns a signal-to-noise ratio of the config's range, or None for a clip that is to stay clean."""
        low_db, high_db = self._config.snr_db
        snr_db = float(rng.uniform(low_db, high_db))
        return None if rng.random() < self._config.clean_share else snr_db

    def draw(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Returns (num_samples,) float32 noise of RMS 0.1 (a recording's silent piece stays silent).

        Raises:
            AudioError: a recording that can't be read.
        """
        kind = self._kinds[int(rng.choice(len(self._kinds), p=self._shares))]
        if kind == "coloured":
            low, high = self._config.beta
            noise = coloured_noise(num_samples, float(rng.uniform(low, high)), rng)
        elif kind == "made":
            noise = made_noise(num_samples, rng)
        elif kind == "babble":
            noise = self._draw_babble(num_samples, rng)
        else:
            drawn = self._recordings[int(rng.integers(len(self._recordings)))]
            recording = drawn if isinstance(drawn, np.ndarray) else _cached_audio(drawn)
            noise = random_piece(recording, num_samples, rng)
        rms = np.sqrt(_power(noise))
        return (noise * (_NOISE_RMS / rms) if rms > 1e-6 else noise).astype(np.float32)

    def _draw_babble(self, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        low, high = self._config.num_talkers
        babble = np.zeros(num_samples, np.float32)
        for _ in range(int(rng.integers(low, high + 1))):
            clip = self._babble[int(rng.integers(len(self._babble)))]
            level = np.float32(10 ** (rng.uniform(-6, 0) / 20) / np.sqrt(_power(clip)))
            babble += random_piece(clip, num_samples, rng) * level
        return babble


def random_piece(waveform: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (num_samples,) samples of `waveform` from a random start, looped where it is too short."""
    if len(waveform) >= num_samples:
        start = int(rng.integers(len(waveform) - num_samples + 1))
        return waveform[start : start + num_samples]
    return np.resize(np.roll(waveform, int(rng.integers(len(waveform)))), num_samples)


@lru_cache(maxsize=_CACHED_FILES)
def _cached_audio(path: Path) -> np.ndarray:
    return read_audio(path)


def _power(signal: np.ndarray) -> float:
    return float(np.mean(signal.astype(np.float64) ** 2)) if len(signal) else 0.0
