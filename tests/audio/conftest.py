"""Sounds for the audio tests, and the way to `tests/audio_system.py` under any pytest import mode."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audio_system import PulseNullSink, pulse_null_sink

Tone = Callable[..., np.ndarray]


@pytest.fixture
def tone() -> Tone:
    """Returns a function that makes a sine: (num_samples,) float32."""

    def make(
        frequency_hz: float = 440.0, duration_s: float = 1.0, rate: int = 16_000, amplitude: float = 0.5
    ) -> np.ndarray:
        time_s = np.arange(round(duration_s * rate)) / rate
        return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)

    return make


@pytest.fixture(scope="module")
def pulse() -> Iterator[PulseNullSink]:
    with pulse_null_sink() as sink:
        yield sink
