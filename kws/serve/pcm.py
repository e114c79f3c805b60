"""Raw audio as clients send it ─▶ waveforms of the package: any rate, width and number of channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kws.audio.resample import MAX_RATE, MIN_RATE, StreamResampler
from kws.audio.samples import Waveform, as_waveform, pcm16_from_bytes
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

MAX_CHANNELS = 32
WIDTHS = (1, 2, 3, 4)
PIECE_S = 1.0
"""Longest block that is worked on at a time, in seconds, so that one client's does not hold up the others."""

_FULL_SCALE_32 = 1 << 31
_MIDDLE_8 = 128


@dataclass(frozen=True)
class PcmFormat:
    """Format of raw little-endian samples, channels interleaved.

    Attributes:
        rate: in Hz.
        width: bytes of a sample: 1 (unsigned), 2, 3 or 4 (signed).
        channels: averaged.
        is_float: whether samples are 32-bit floats in −1..1.

    Raises:
        AudioError: a value that is no integer or out of range.
    """

    rate: int = SAMPLE_RATE
    width: int = 2
    channels: int = 1
    is_float: bool = False

    def __post_init__(self) -> None:
        _check(self.rate, "rate", f"{MIN_RATE} to {MAX_RATE} Hz", MIN_RATE, MAX_RATE)
        _check(self.width, "width", "1, 2, 3 or 4 bytes", WIDTHS[0], WIDTHS[-1])
        _check(self.channels, "channels", f"1 to {MAX_CHANNELS}", 1, MAX_CHANNELS)
        if self.is_float and self.width != 4:
            raise AudioError(f"floats of {self.width} bytes were announced; expected 4")

    @property
    def bytes_per_second(self) -> int:
        """Bytes that one second takes."""
        return self.rate * self.width * self.channels

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yields `data` in pieces of a second at most."""
        size = round(PIECE_S * self.rate) * self.width * self.channels
        yield from (data[start : start + size] for start in range(0, len(data), size))


class PcmDecoder:
    """Turns a stream of raw audio into 16 kHz waveforms; a sample may be cut anywhere between two chunks.

    Args:
        pcm: format of the stream.
    """

    def __init__(self, pcm: PcmFormat) -> None:
        self.format = pcm
        self._resampler = StreamResampler(pcm.rate)
        self._rest = b""

    def feed(self, data: bytes) -> Waveform:
        """Returns (num_samples,) float32 at 16 kHz, what is ready after `data`; maybe nothing.

        Raises:
            AudioError: floats that are NaN, infinite or far over full scale.
        """
        frame_bytes = self.format.width * self.format.channels
        data = self._rest + data if self._rest else data
        num_whole = len(data) - len(data) % frame_bytes
        data, self._rest = data[:num_whole], data[num_whole:]
        samples = _samples(data, self.format)
        if self.format.channels > 1:
            samples = samples.reshape(-1, self.format.channels).mean(axis=1)
        return self._resampler.feed(samples)

    def flush(self) -> Waveform:
        """Returns the samples still inside; a last frame that was not whole is left out."""
        self._rest = b""
        return self._resampler.flush()


def _samples(data: bytes, pcm: PcmFormat) -> Waveform:
    if pcm.is_float:
        return as_waveform(np.frombuffer(data, "<f4"))
    if pcm.width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - _MIDDLE_8) / np.float32(_MIDDLE_8)
    if pcm.width == 2:
        return pcm16_from_bytes(data)
    if pcm.width == 3:  # as the upper three bytes of a 32-bit sample
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data = padded.tobytes()
    return np.frombuffer(data, "<i4").astype(np.float32) * np.float32(1 / _FULL_SCALE_32)


def _check(value: object, name: str, allowed: str, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise AudioError(f"audio with {name} {value!r} was announced; expected {allowed}")
