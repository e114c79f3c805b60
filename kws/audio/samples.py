"""Accepts what users hand over as audio and turns it into waveforms: (num_samples,) float32 in −1..1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.config import check
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

Waveform = NDArray[np.float32]

PCM16_SCALE = 32768
"""Full scale of a 16-bit sample."""

MAX_PEAK = 32.0
"""Loudest float sample taken for audio (30 dB over full scale): beyond, it is integers stored as floats."""

_FLOAT_TYPES = ("f2", "f4", "f8")
_EXPECTED = "expected a 1-D array of int16, or of float in −1..1"


def as_waveform(chunk: Any) -> Waveform:
    """Returns `chunk` as a waveform: (num_samples,) float32 in −1..1; float32 input is returned without a copy.

    Args:
        chunk: (num_samples,) int16 (divided by 32768), float16, float32 or float64, as a NumPy array or anything with
            `__array__` (a torch tensor on the CPU); it may be empty.

    Raises:
        AudioError: NaN or infinity, integers stored as floats, or the wrong type, shape or dtype.
    """
    array = chunk if isinstance(chunk, np.ndarray) else _to_array(chunk)
    if array.ndim != 1:
        raise AudioError(
            f"audio of shape {array.shape} was given; {_EXPECTED}. Average the channels, or pass one channel at a time"
        )
    kind = array.dtype.str[1:]
    if kind == "i2":
        return array.astype(np.float32) * np.float32(1 / PCM16_SCALE)
    if kind not in _FLOAT_TYPES:
        raise AudioError(f"audio of dtype {array.dtype} was given; {_EXPECTED}. Convert it first")
    problem = peak_problem(array)
    if problem:
        raise AudioError(f"the audio given {problem}")
    return np.ascontiguousarray(array, dtype=np.float32)


def peak_problem(array: NDArray[np.floating]) -> str:
    """Returns what makes the float samples in `array` unusable, with the remedy, or an empty string."""
    if array.size == 0:
        return ""
    peak = float(np.abs(array).max())
    if peak <= MAX_PEAK:
        return ""
    if math.isfinite(peak):
        return (
            f"has samples up to {peak:g}; expected float in −1..1. These look like integers stored as floats: "
            f"divide by {PCM16_SCALE} (16-bit), or pass them as int16"
        )
    bad = np.flatnonzero(~np.isfinite(array))
    return (
        f"has NaN or infinity in {bad.size} of {array.size} samples, first at sample {bad[0]}; "
        "expected finite values. Repair or drop this audio"
    )


def pcm16_from_bytes(data: bytes | bytearray | memoryview) -> Waveform:
    """Returns raw little-endian signed 16-bit mono samples as a waveform.

    Raises:
        AudioError: an odd number of bytes.
    """
    num_bytes = memoryview(data).nbytes
    if num_bytes % 2:
        raise AudioError(
            f"{num_bytes} bytes of 16-bit audio were given; expected an even number. "
            "Keep the last byte for the next chunk"
        )
    return np.frombuffer(data, dtype="<i2").astype(np.float32) * np.float32(1 / PCM16_SCALE)


def pcm16_from_waveform(waveform: Waveform) -> NDArray[np.int16]:
    """Returns `waveform` as (num_samples,) int16, rounded and clipped; the exact inverse of `as_waveform` on int16."""
    scaled = np.rint(np.asarray(waveform, dtype=np.float32) * PCM16_SCALE)
    return np.clip(scaled, -PCM16_SCALE, PCM16_SCALE - 1).astype(np.int16)


def block_size(block_s: float, sample_rate: int = SAMPLE_RATE) -> int:
    """Returns the number of samples in a block of `block_s` seconds, at least one.

    Raises:
        ConfigError: `block_s` is not a positive number of seconds, one minute at most.
    """
    check(0 < block_s <= 60, "block_s", block_s, "more than 0 and at most 60 seconds")
    return max(1, round(block_s * sample_rate))


def _to_array(chunk: Any) -> NDArray[Any]:
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        raise AudioError(
            f"{type(chunk).__name__} was given; {_EXPECTED}. Convert it with kws.audio.samples.pcm16_from_bytes"
        )
    if not hasattr(chunk, "__array__"):
        raise AudioError(
            f"{type(chunk).__name__} was given; {_EXPECTED}. Convert it with numpy.asarray(..., 'float32')"
        )
    try:
        return np.asarray(chunk)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"{type(chunk).__name__} can't be read as an array ({error}); {_EXPECTED}") from error
