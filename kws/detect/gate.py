"""A gate before the encoder: silence is passed over, sound and what surrounds it is not.

samples ─▶ units ─▶ level of each band over its floor ─▶ sound or silence ─▶ heard, held back, or passed over

A unit is passed over only if it, all that was heard `HANG_S` before it and all that came `LOOK_BACK_S` after it is
silence: what is silent is held back until that is known, and when sound comes is heard first. Units count samples from
the stream's start, so how the audio was cut into chunks changes nothing.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import numpy as np

from kws.frames import SAMPLE_RATE, FrameGeometry

LOOK_BACK_S = 1.6
"""What is heard before a sound: the left context of the encoder and of the head, so that they know what was before."""
HANG_S = 1.0
"""What is heard after a sound: a head fires within that of its word's end."""
WARM_UP_S = 2.0
"""At the start everything is heard, until it is known how loud silence is."""
MEMORY_S = 10.0
"""The floor of a band is its lowest level for so long. Source: minimum statistics, Martin 2001, IEEE TSAP 9(5)."""
MARGIN_DB = 6.0
"""Over the floor, in any band, is sound. Levels of steady noise, white to brown, stay within it."""
SILENCE_DB = -80.0
"""A band below this, relative to full scale, is silence whatever its floor; microphones' own noise is louder."""
BAND_EDGES_HZ = (250, 500, 1000, 2000, 4000, 8000)
"""Speech stands out of most noises in some of these; rumble and hum are below."""
WINDOW = round(0.02 * SAMPLE_RATE)
SMOOTHED_WINDOWS = 8
"""Windows that a level is the mean of: 0.16 s. Over 0.1 s, a seventh of steady white noise would be sound."""


class Piece(NamedTuple):
    """Samples (num_samples,) in their order, to be heard or passed over."""

    samples: np.ndarray
    is_heard: bool


class Gate:
    """The gate of one stream.

    Args:
        geometry: how samples map to frames.
        unit_frames: frames that are decided on together, whole steps of the encoder.
    """

    def __init__(self, geometry: FrameGeometry, unit_frames: int) -> None:
        unit_s = unit_frames * geometry.hop_s
        self._num_held, self._num_open = ceil(LOOK_BACK_S / unit_s), ceil(HANG_S / unit_s)
        self._unit_samples = unit_frames * geometry.hop
        self._meter = SoundMeter(unit_s)
        self._next_samples = geometry.num_samples(unit_frames)  # of the first unit: it is longer by the overlap
        self._samples = np.zeros(0, np.float32)
        self._held: deque[np.ndarray] = deque()
        self._num_silent = 0

    def feed(self, samples: np.ndarray) -> list[Piece]:
        """Returns what is decided now that `samples` (num_samples,) have come."""
        self._samples = np.concatenate([self._samples, samples])
        pieces: list[Piece] = []
        while len(self._samples) >= self._next_samples:
            unit, self._samples = np.split(self._samples, [self._next_samples])
            self._next_samples = self._unit_samples
            pieces += self._decide(unit)
        return pieces

    def flush(self) -> list[Piece]:
        """Returns what was not decided yet, at the end of the audio."""
        pieces = self._decide(self._samples) if len(self._samples) else []
        return pieces + [Piece(unit, False) for unit in self._held]

    def _decide(self, unit: np.ndarray) -> list[Piece]:
        if self._meter.is_sound(unit):
            pieces = [Piece(held, True) for held in (*self._held, unit)]
            self._held.clear()
            self._num_silent = 0
            return pieces
        self._num_silent += 1
        if self._num_silent <= self._num_open:
            return [Piece(unit, True)]
        self._held.append(unit)
        return [Piece(self._held.popleft(), False)] if len(self._held) > self._num_held else []


class SoundMeter:
    """Tells sound from silence by the level of each band over the lowest that it had of late.

    Args:
        unit_s: length of what it is asked about, in seconds.
    """

    def __init__(self, unit_s: float) -> None:
        frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
        bands = pairwise(BAND_EDGES_HZ)
        self._bands = np.stack([(frequencies >= low) & (frequencies < high) for low, high in bands], 1).astype("f4")
        self._taper = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
        self._full_scale_db = 10 * np.log10(WINDOW * np.square(self._taper).sum() / 2)
        self._floors_db = np.full((ceil(MEMORY_S / unit_s), self._bands.shape[1]), np.inf)  # a ring
        self._num_warm, self._num_units = ceil(WARM_UP_S / unit_s), 0
        self._recent = np.zeros((0, self._bands.shape[1]), np.float32)

    def is_sound(self, unit: np.ndarray) -> bool:
        """Returns whether there is sound in the next `unit` (num_samples,)."""
        levels_db = self._levels_db(unit)
        if len(levels_db):
            self._floors_db[self._num_units % len(self._floors_db)] = levels_db.min(axis=0)
        self._num_units += 1
        floors_db = np.maximum(self._floors_db.min(axis=0), SILENCE_DB)
        return self._num_units <= self._num_warm or bool((levels_db > floors_db + MARGIN_DB).any())

    def _levels_db(self, unit: np.ndarray) -> np.ndarray:
        """Returns (num_windows, num_bands) levels, relative to a full-scale square wave."""
        windows = unit[: len(unit) // WINDOW * WINDOW].reshape(-1, WINDOW) * self._taper
        spectra = np.fft.rfft(windows)
        powers = np.concatenate([self._recent, (np.square(spectra.real) + np.square(spectra.imag)) @ self._bands])
        self._recent = powers[1 - SMOOTHED_WINDOWS :]
        if len(powers) < SMOOTHED_WINDOWS:
            return np.zeros((0, powers.shape[1]), np.float32)
        smoothed = np.lib.stride_tricks.sliding_window_view(powers, SMOOTHED_WINDOWS, axis=0).mean(axis=-1)
        return 10 * np.log10(np.maximum(smoothed, 1e-20)) - self._full_scale_db
