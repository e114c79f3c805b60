"""Room impulse responses, simulated or recorded, whose first sample is the direct sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from kws.frames import SAMPLE_RATE

_PREDELAY_S = 0.003
_EARLY_S = 0.05
_NUM_EARLY = (6, 20)
_BAND_EDGES_HZ = (0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8001.0)
_BAND_DECAYS = (1.2, 1.1, 1.0, 0.9, 0.75, 0.5)
"""Reverberation time of each band relative to the room's: air and walls swallow high frequencies first."""
_DECAY_60_DB = np.log(1000.0)


@dataclass(frozen=True)
class Room:
    """A room and a place in it.

    Attributes:
        rt60_s: seconds in which the sound between 500 and 1000 Hz falls by 60 dB.
        direct_to_reverberant_db: energy of the direct sound over that of everything after it.
        seed: fixes the reflections.
    """

    rt60_s: float
    direct_to_reverberant_db: float
    seed: int


def simulate_rir(room: Room) -> np.ndarray:
    """Returns the impulse response of `room`: (num_samples,) float32 at 16 kHz, 1 at sample 0.

    Random early reflections, and a noise tail that decays exponentially, faster at high frequencies.
    """
    rng = np.random.default_rng(room.seed)
    num_samples = max(round(room.rt60_s * SAMPLE_RATE), round(2 * _EARLY_S * SAMPLE_RATE))
    reflections = _tail(room.rt60_s, num_samples, rng)
    early = _early(room.rt60_s, num_samples, rng)
    share = rng.uniform(0.3, 0.7)
    reflections = share * early / _energy(early) ** 0.5 + (1 - share) * reflections / _energy(reflections) ** 0.5
    reflections *= 10 ** (-room.direct_to_reverberant_db / 20) / _energy(reflections) ** 0.5
    reflections[0] = 1.0
    return reflections.astype(np.float32)


def direct_first(rir: np.ndarray) -> np.ndarray:
    """Returns a recorded `rir` from its direct sound on, which is scaled to 1.

    Args:
        rir: (num_samples,) float32, 16 kHz; the direct sound is its highest peak.
    """
    peak = int(np.abs(rir).argmax())
    return rir[peak:] / rir[peak] if rir[peak] != 0 else np.ones(1, np.float32)


def _tail(rt60_s: float, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    size = next_fast_len(num_samples, real=True)
    spectrum = rfft(rng.standard_normal(size, np.float32))
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    time_s = np.arange(num_samples) / SAMPLE_RATE
    tail = np.zeros(num_samples)
    for low_hz, high_hz, decay in zip(_BAND_EDGES_HZ, _BAND_EDGES_HZ[1:], _BAND_DECAYS):
        band = irfft(spectrum * ((frequencies >= low_hz) & (frequencies < high_hz)), size)[:num_samples]
        tail += band * np.exp(-_DECAY_60_DB * time_s / (rt60_s * decay))
    tail[: round(_PREDELAY_S * SAMPLE_RATE)] = 0.0
    return tail


def _early(rt60_s: float, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(*_NUM_EARLY))
    delays_s = rng.uniform(_PREDELAY_S, _EARLY_S, count)
    heights = rng.uniform(0.3, 1.0, count) * rng.choice([-1.0, 1.0], count) * np.exp(-_DECAY_60_DB * delays_s / rt60_s)
    early = np.zeros(num_samples)
    early[(delays_s * SAMPLE_RATE).astype(int)] = heights
    return early


def _energy(signal: np.ndarray) -> float:
    return float(np.sum(signal.astype(np.float64) ** 2)) + 1e-20
