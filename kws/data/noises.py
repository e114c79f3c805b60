"""Noises of rooms, streets and machines that are made, not recorded: textures, events and tones, drawn anew each time.

None imitates a particular source. They vary what coloured noise lacks: modulation, rhythm, transients and pitch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.fft import irfft, rfft, rfftfreq
from scipy.signal import fftconvolve

from kws.frames import SAMPLE_RATE

NUM_LAYERS = (1, 3)
LAYER_DB = (-15.0, 0.0)
"""Level of each layer after the first, against it."""


def made_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (num_samples,) float32 noise of unit RMS: one to three layers of textures, events and tones."""
    noise = np.zeros(num_samples)
    for layer in range(int(rng.integers(NUM_LAYERS[0], NUM_LAYERS[1] + 1))):
        sound = _KINDS[int(rng.integers(len(_KINDS)))](num_samples, rng)
        gain_db = rng.uniform(*LAYER_DB) if layer else 0.0
        noise += sound * (10 ** (gain_db / 20) / max(float(np.sqrt(np.mean(sound**2))), 1e-9))
    return (noise / max(float(np.sqrt(np.mean(noise**2))), 1e-9)).astype(np.float32)


def texture(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns noise of a random colour whose level wavers or pulses, as wind, rain, water, fans and engines do."""
    noise = _coloured(rng.standard_normal(num_samples), rng)
    if rng.random() < 0.5:
        return noise * np.exp(rng.uniform(0.2, 1.2) * wavering(num_samples, _log_uniform(rng, 0.3, 20), rng))
    period_s = 1 / _log_uniform(rng, 4, 40)
    time_s = np.arange(num_samples) / SAMPLE_RATE + period_s * 0.2 * wavering(num_samples, 1.0, rng)
    return noise * np.exp(-_log_uniform(rng, 0.5, 8) * np.mod(time_s / period_s, 1.0))


def events(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns knocks, ticks, clatter or bursts: one sound again and again, in rhythm or at random."""
    rate_hz = _log_uniform(rng, 0.7, 25)
    count = max(1, int(rng.poisson(rate_hz * num_samples / SAMPLE_RATE)))
    times = rng.uniform(0, num_samples, count)
    if rng.random() < 0.4:
        period = SAMPLE_RATE / rate_hz
        times = np.arange(rng.uniform(0, min(period, num_samples)), num_samples, period)
    strikes = np.zeros(num_samples)
    np.add.at(strikes, times.astype(int), np.exp(0.5 * rng.standard_normal(len(times))))
    return fftconvolve(strikes, _strike(rng))[:num_samples]


def tones(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a buzzing, whistling or crying sound: harmonics of a pitch that glides, now loud, now gone."""
    base_hz = _log_uniform(rng, 50, 2000)
    pitch_hz = base_hz * np.exp(rng.uniform(0, 0.3) * wavering(num_samples, _log_uniform(rng, 0.5, 8), rng))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE
    num_harmonics = int(np.clip(SAMPLE_RATE / 2 / base_hz, 1, 20))
    slope = rng.uniform(0.3, 2.0)
    sound = np.zeros(num_samples)
    for harmonic in range(1, num_harmonics + 1):
        gain = harmonic**-slope * np.exp(0.7 * rng.standard_normal())
        sound += gain * np.sin(harmonic * phase) * (harmonic * pitch_hz < SAMPLE_RATE / 2)
    gate = 1 / (1 + np.exp(-4 * wavering(num_samples, _log_uniform(rng, 0.5, 4), rng)))
    return sound * gate


_KINDS: tuple[Callable[[int, np.random.Generator], np.ndarray], ...] = (texture, events, tones)


def wavering(num_samples: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a smooth random curve of unit deviation that changes about `rate_hz` times a second."""
    num_knots = int(num_samples / SAMPLE_RATE * rate_hz) + 3
    place = np.arange(num_samples) * (rate_hz / SAMPLE_RATE) + rng.random()
    return np.interp(place, np.arange(num_knots), rng.standard_normal(num_knots))


def _strike(rng: np.random.Generator) -> np.ndarray:
    """Returns one knock: a burst of noise and up to four resonances, all dying away."""
    time_s = np.arange(int(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
    burst = _coloured(rng.standard_normal(len(time_s)), rng) * np.exp(-time_s / _log_uniform(rng, 0.002, 0.1))
    sound = burst / np.abs(burst).max() * rng.uniform(0.1, 1.0)
    for _ in range(int(rng.integers(0, 5))):
        ring = np.sin(2 * np.pi * _log_uniform(rng, 150, 6000) * time_s)
        sound += rng.uniform(0.1, 1.0) * ring * np.exp(-time_s / _log_uniform(rng, 0.003, 0.12))
    return sound


def _coloured(noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns `noise` with a random tilt of up to 12 dB an octave and a random, smooth response upon it."""
    knots_hz = np.geomspace(60, SAMPLE_RATE / 2, 9)
    response_db = rng.uniform(-12, 3) * np.log2(knots_hz / knots_hz[0]) + 7 * rng.standard_normal(len(knots_hz))
    frequencies_hz = rfftfreq(len(noise), 1 / SAMPLE_RATE)
    gain = 10 ** (np.interp(frequencies_hz, knots_hz, response_db, left=response_db[0] - 10) / 20)
    return irfft(rfft(noise) * gain, len(noise))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
