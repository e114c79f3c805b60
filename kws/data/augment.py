"""One clip made to sound as if recorded elsewhere: parameters are drawn first, then applied.

`AugmentConfig` ──draw_augmentation(rng)──▶ `Augmentation` ──apply_room──▶ (mix noise here) ──apply_channel──▶ waveform
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import soxr
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import fftconvolve

from kws.config import check
from kws.data.mix import NoiseSource, coloured_noise, mix_first_heard
from kws.data.room import Room, direct_first, simulate_rir
from kws.frames import SAMPLE_RATE

_FILTER_PAD_S = 0.05
_FLOOR_SNR_DB = (25.0, 60.0)
_NOISE_ALONE_DB = (-40.0, 0.0)
_REDRAWS = 4
_FILTER_ORDER = 4
_TILT_REFERENCE_HZ = 1000.0
_TILT_OCTAVES = 3.0


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how far clips are changed. Each range is (low, high), drawn uniformly; each share is 0..1.

    Attributes:
        speed_share: share of clips with another speed.
        speed: factor; tempo and pitch go together.
        room_share: share of clips in a room.
        recorded_rir_share: of these, the share that takes one of the given impulse responses, where there are any.
        rt60_s: reverberation time of a simulated room.
        direct_to_reverberant_db: how near the speaker is.
        tilt_share: share of clips with a tilted spectrum.
        tilt_db_per_octave: slope of the tilt.
        band_share: share of clips through a narrow-band microphone or telephone.
        low_cut_hz: high-pass corner.
        high_cut_hz: low-pass corner.
        clip_share: share of clips that are softly clipped.
        clip_drive_db: how far the peak is driven into saturation.
        gain_db: gain of every clip; the result is scaled down where it would exceed full scale.

    Raises:
        ConfigError: a share outside 0..1, or a range that isn't ordered within its bounds.
    """

    speed_share: float = 0.3
    speed: tuple[float, ...] = (0.9, 1.1)
    room_share: float = 0.6
    recorded_rir_share: float = 0.5
    rt60_s: tuple[float, ...] = (0.1, 0.8)
    direct_to_reverberant_db: tuple[float, ...] = (-3.0, 15.0)
    tilt_share: float = 0.5
    tilt_db_per_octave: tuple[float, ...] = (-3.0, 3.0)
    band_share: float = 0.25
    low_cut_hz: tuple[float, ...] = (50.0, 350.0)
    high_cut_hz: tuple[float, ...] = (3300.0, 7500.0)
    clip_share: float = 0.15
    clip_drive_db: tuple[float, ...] = (3.0, 18.0)
    gain_db: tuple[float, ...] = (-20.0, 6.0)

    def __post_init__(self) -> None:
        for key in ("speed_share", "room_share", "recorded_rir_share", "tilt_share", "band_share", "clip_share"):
            check(0 <= getattr(self, key) <= 1, key, getattr(self, key), "0..1")
        bounds = {
            **{"speed": (0.5, 2.0), "rt60_s": (0.05, 3.0), "direct_to_reverberant_db": (-20.0, 40.0)},
            **{"tilt_db_per_octave": (-12.0, 12.0), "low_cut_hz": (10.0, 1000.0), "high_cut_hz": (1500.0, 8000.0)},
            **{"clip_drive_db": (0.0, 40.0), "gain_db": (-60.0, 40.0)},
        }
        for key, (low, high) in bounds.items():
            value = getattr(self, key)
            is_range = len(value) == 2 and low <= value[0] <= value[1] <= high
            check(is_range, key, value, f"two numbers, low and high, within {low}..{high}")


@dataclass(frozen=True)
class Augmentation:
    """The drawn parameters; None where that step is left out.

    Attributes:
        speed: factor on tempo and pitch.
        room: a simulated room.
        rir_index: which of the given impulse responses stands in for `room`.
        tilt_db_per_octave: slope around 1 kHz, levelling off three octaves away.
        band_hz: low and high corner of the band that passes.
        clip_drive_db: drive into saturation.
        gain_db: final gain.
    """

    speed: float | None = None
    room: Room | None = None
    rir_index: int | None = None
    tilt_db_per_octave: float | None = None
    band_hz: tuple[float, float] | None = None
    clip_drive_db: float | None = None
    gain_db: float = 0.0

    def apply(self, waveform: np.ndarray, rirs: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Returns `waveform` through room and channel; see `apply_room` and `apply_channel`."""
        return self.apply_channel(self.apply_room(waveform, rirs))

    def apply_room(self, waveform: np.ndarray, rirs: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Returns `waveform` at another speed and in a room: what reaches the microphone.

        The direct sound stays where it was (see `moved_s` for the speed), and the length is kept but for the speed: pad
        the clip first where the reverberation should ring on.

        Args:
            waveform: (num_samples,) float32, 16 kHz.
            rirs: the impulse responses that `rir_index` refers to, any length, 16 kHz.
        """
        if self.speed is not None:
            waveform = soxr.resample(waveform, SAMPLE_RATE * self.speed, SAMPLE_RATE)
        if self.rir_index is not None:
            waveform = convolve(waveform, direct_first(rirs[self.rir_index]))
        elif self.room is not None:
            waveform = convolve(waveform, simulate_rir(self.room))
        return waveform.astype(np.float32, copy=False)

    def apply_channel(self, waveform: np.ndarray) -> np.ndarray:
        """Returns `waveform` through the microphone: tilt, band limit, soft clipping, gain; never beyond −1..1.

        Args:
            waveform: (num_samples,) float32, 16 kHz.
        """
        if self.tilt_db_per_octave is not None or self.band_hz is not None:
            waveform = self._shape_spectrum(waveform)
        if self.clip_drive_db is not None:
            waveform = soft_clip(waveform, self.clip_drive_db)
        waveform = waveform * np.float32(10 ** (self.gain_db / 20))
        peak = float(np.abs(waveform).max(initial=0.0))
        return (waveform / peak if peak > 1 else waveform).astype(np.float32, copy=False)

    def moved_s(self, time_s: float) -> float:
        """Returns where a moment of the original clip lies in the augmented one, in seconds."""
        return time_s / (self.speed or 1.0)

    def _shape_spectrum(self, waveform: np.ndarray) -> np.ndarray:
        size = next_fast_len(len(waveform) + round(_FILTER_PAD_S * SAMPLE_RATE), real=True)
        frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32)
        response = np.ones_like(frequencies)
        if self.tilt_db_per_octave is not None:
            octaves = np.log2(np.maximum(frequencies, 1.0) / _TILT_REFERENCE_HZ).clip(-_TILT_OCTAVES, _TILT_OCTAVES)
            response *= 10 ** (self.tilt_db_per_octave * octaves / 20)
        if self.band_hz is not None:
            low_hz, high_hz = self.band_hz
            response /= np.sqrt(1 + (low_hz / np.maximum(frequencies, 1.0)) ** (2 * _FILTER_ORDER))
            response /= np.sqrt(1 + (frequencies / high_hz) ** (2 * _FILTER_ORDER))
        return irfft(rfft(waveform, size) * response, size)[: len(waveform)]


def draw_augmentation(rng: np.random.Generator, config: AugmentConfig, num_rirs: int = 0) -> Augmentation:
    """Returns random parameters.

    Args:
        rng: the only source of randomness.
        config: shares and ranges.
        num_rirs: how many recorded impulse responses there are to choose from.
    """
    has_room = rng.random() < config.room_share
    takes_recorded = has_room and num_rirs > 0 and rng.random() < config.recorded_rir_share
    return Augmentation(
        speed=_maybe(rng, config.speed_share, config.speed),
        room=_draw_room(rng, config) if has_room and not takes_recorded else None,
        rir_index=int(rng.integers(num_rirs)) if takes_recorded else None,
        tilt_db_per_octave=_maybe(rng, config.tilt_share, config.tilt_db_per_octave),
        band_hz=_draw_band(rng, config),
        clip_drive_db=_maybe(rng, config.clip_share, config.clip_drive_db),
        gain_db=_between(rng, config.gain_db),
    )


class Augmenter:
    """Makes composed windows sound recorded: a room, then noise, then a microphone and a level.

    Speed is left alone, whatever the config says: it would move the labels; perturb single clips before composing.

    Args:
        config: shares and ranges.
        rirs: recorded impulse responses, (num_samples,) float32 each, possibly none.
    """

    def __init__(self, config: AugmentConfig, rirs: Sequence[np.ndarray] = ()) -> None:
        self._config = replace(config, speed_share=0.0)
        self._rirs = [direct_first(rir) for rir in rirs]

    def apply(self, waveform: np.ndarray, noise: NoiseSource, rng: np.random.Generator) -> np.ndarray:
        """Returns `waveform`, (num_samples,) float32, as a microphone in a noisy room hears it; its length is kept.

        A silent waveform becomes noise alone, at a drawn level. No microphone is noiseless: what is drawn to be clean
        gets a faint floor.
        """
        drawn = draw_augmentation(rng, self._config, len(self._rirs))
        heard = drawn.apply_room(waveform, self._rirs)
        snr_db = noise.draw_snr_db(rng)
        if snr_db is None:
            background = coloured_noise(len(heard), float(rng.uniform(0, 1.5)), rng)
            snr_db = float(rng.uniform(*_FLOOR_SNR_DB))
        else:
            background = noise.draw(len(heard), rng)
        if not heard.any():
            heard = background * np.float32(10 ** (rng.uniform(*_NOISE_ALONE_DB) / 20))
        else:
            others = (noise.draw(len(heard), rng) for _ in range(_REDRAWS))
            mixture = mix_first_heard(heard, chain([background], others), snr_db)
            heard = mixture.waveform if mixture is not None else heard
        return drawn.apply_channel(heard)


def convolve(waveform: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """Returns `waveform` convolved with `rir`, cut to its own length."""
    return fftconvolve(waveform, rir)[: len(waveform)]


def soft_clip(waveform: np.ndarray, drive_db: float) -> np.ndarray:
    """Returns `waveform` through a tanh that its peak drives `drive_db` beyond the knee; the peak keeps its level."""
    peak = np.abs(waveform).max(initial=0.0)
    if peak == 0:
        return waveform
    drive = 10 ** (drive_db / 20)
    return np.tanh(waveform * (drive / peak)) * (peak / np.tanh(drive))


def _between(rng: np.random.Generator, bounds: Sequence[float]) -> float:
    return float(rng.uniform(bounds[0], bounds[1]))


def _maybe(rng: np.random.Generator, share: float, bounds: Sequence[float]) -> float | None:
    value = _between(rng, bounds)
    return value if rng.random() < share else None


def _draw_room(rng: np.random.Generator, config: AugmentConfig) -> Room:
    return Room(
        rt60_s=_between(rng, config.rt60_s),
        direct_to_reverberant_db=_between(rng, config.direct_to_reverberant_db),
        seed=int(rng.integers(2**32)),
    )


def _draw_band(rng: np.random.Generator, config: AugmentConfig) -> tuple[float, float] | None:
    low_hz, high_hz = _between(rng, config.low_cut_hz), _between(rng, config.high_cut_hz)
    return (low_hz, high_hz) if rng.random() < config.band_share else None
