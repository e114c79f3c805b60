"""A stream through an encoder that was not trained to stream: samples ─▶ windows ─▶ the frames of each hop; no torch.

Windows hold no padding and are aligned to the sample counter: the first one gives all of its frames, each later one the
frames of the last hop.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kws.audio.samples import as_waveform
from kws.frames import FrameGeometry

MAX_WINDOWS = 16
"""Windows encoded at once at most."""


class WindowNetwork(Protocol):
    """A network that encodes windows of one length; it holds no state of any stream."""

    geometry: FrameGeometry
    window_frames: int
    hop_frames: int

    @property
    def dim(self) -> int:
        """Width of a frame."""

    def run(self, windows: np.ndarray) -> np.ndarray:
        """Returns (batch, window_frames, dim) float32 of `windows` (batch, num_samples), each one window long."""


class WindowedStream:
    """The state of one stream: the samples from the last window's start on, and how many of their frames were given."""

    step_frames = 0  # windows are alike however many are encoded at once

    def __init__(self, encoder: WindowNetwork) -> None:
        self.encoder = encoder
        self.reset()

    @property
    def block_frames(self) -> int:
        """Frames that each window but the first gives."""
        return self.encoder.hop_frames

    def reset(self) -> None:
        """Forgets everything heard."""
        self._samples = np.zeros(0, np.float32)
        self._given = 0  # frames
        self._next = 0  # frame at which the next window starts

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, dim) float32 frames of the windows that `samples` completes.

        Raises:
            AudioError: `samples` is not a waveform; the stream is as before.
        """
        num_whole = self._add(samples)
        frames = [np.zeros((0, self.encoder.dim), np.float32)]
        while num_whole > 0:
            count = min(num_whole, MAX_WINDOWS)
            frames.append(self._encode(count))
            num_whole -= count
        return np.concatenate(frames)

    def skip(self, samples: np.ndarray) -> int:
        """Passes over the windows that `samples` completes, and returns how many frames they would have given."""
        num_whole = self._add(samples)
        return self._advance(num_whole) if num_whole > 0 else 0

    def flush(self) -> np.ndarray:
        """Returns the frames still owed, from a last window that ends with the audio; the stream is then fresh.

        Audio shorter than one window is the only thing ever padded, with silence after it.
        """
        geometry, window = self.encoder.geometry, self.encoder.window_frames
        num_frames, given = geometry.num_frames(len(self._samples)), self._given
        frames = np.zeros((0, self.encoder.dim), np.float32)
        if num_frames > given:
            start = max(0, num_frames - window)
            last = self._samples[start * geometry.hop : geometry.num_samples(num_frames)]
            padded = np.pad(last, (0, geometry.num_samples(window) - len(last)))
            frames = self.encoder.run(padded[None])[0, given - start : num_frames - start]
        self.reset()
        return frames

    def _add(self, samples: np.ndarray) -> int:
        """Returns how many whole windows there are, with `samples`."""
        self._samples = np.concatenate([self._samples, as_waveform(samples)])
        num_ready = self.encoder.geometry.num_frames(len(self._samples)) - self._next
        return (num_ready - self.encoder.window_frames) // self.encoder.hop_frames + 1

    def _encode(self, count: int) -> np.ndarray:
        geometry, hop, window = self.encoder.geometry, self.encoder.hop_frames, self.encoder.window_frames
        starts = [self._next + index * hop for index in range(count)]
        length = geometry.num_samples(window)
        windows = [self._samples[start * geometry.hop : start * geometry.hop + length] for start in starts]
        encoded = self.encoder.run(np.stack(windows))
        first = encoded[0, self._given - self._next :]
        later = encoded[1:, window - hop :].reshape(-1, self.encoder.dim)
        self._advance(count)
        return np.concatenate([first, later])

    def _advance(self, count: int) -> int:
        """Goes on by `count` windows, and returns how many frames they give."""
        hop, window = self.encoder.hop_frames, self.encoder.window_frames
        num_frames = window - (self._given - self._next) + (count - 1) * hop
        start = self._next + (count - 1) * hop
        self._samples = self._samples[start * self.encoder.geometry.hop :]
        self._given, self._next = window, hop
        return num_frames
