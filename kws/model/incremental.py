"""The state of one stream through an encoder that streams exactly: samples ─▶ whole blocks ─▶ frames; no torch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from kws.audio.samples import as_waveform
from kws.frames import FrameGeometry

MAX_FEED_FRAMES = 512
"""Frames encoded in one pass at most, so that a long file costs memory for about ten seconds of it."""


class EncoderStream(Protocol):
    """One stream through an encoder: all its state, and none of its weights."""

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, dim) float32 frames that `samples` (num_samples,) completes."""

    def flush(self) -> np.ndarray:
        """Returns the frames still owed at the end of the audio; the stream is then fresh."""

    def reset(self) -> None:
        """Forgets everything heard."""


class StepEncoder(Protocol):
    """A network that continues a stream by whole blocks; it holds no state of any stream."""

    geometry: FrameGeometry

    @property
    def dim(self) -> int:
        """Width of a frame."""

    @property
    def block_frames(self) -> int:
        """Frames that are encoded together."""

    def initial_cache(self) -> Any:
        """Returns the cache of a stream that has heard nothing."""

    def step(self, samples: np.ndarray, cache: Any) -> tuple[np.ndarray, Any]:
        """Returns (1, num_frames, dim) float32 frames of `samples`, and the next cache; `cache` is left as it was.

        Args:
            samples: (1, hop * num_frames + overlap) float32, beginning with the overlap of the step before.
            cache: from `initial_cache` or the step before.
        """


class IncrementalStream:
    """One stream through a `StepEncoder`: the samples not encoded yet, and the network's cache."""

    def __init__(self, encoder: StepEncoder) -> None:
        self.encoder = encoder
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard."""
        self._samples = np.zeros(0, np.float32)
        self._cache = self.encoder.initial_cache()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, dim) float32 frames of the blocks that `samples` completes.

        Raises:
            AudioError: `samples` is not a waveform; the stream is as before.
        """
        self._samples = np.concatenate([self._samples, as_waveform(samples)])
        block = self.encoder.block_frames
        return self._encode(self.encoder.geometry.num_frames(len(self._samples)) // block * block)

    def flush(self) -> np.ndarray:
        """Returns the frames of the last, partial block; the stream is then fresh."""
        frames = self._encode(self.encoder.geometry.num_frames(len(self._samples)))
        self.reset()
        return frames

    def _encode(self, num_frames: int) -> np.ndarray:
        geometry, block = self.encoder.geometry, self.encoder.block_frames
        most = max(1, MAX_FEED_FRAMES // block) * block
        frames = [np.zeros((0, self.encoder.dim), np.float32)]
        while num_frames > 0:
            count = min(num_frames, most)
            encoded, self._cache = self.encoder.step(self._samples[None, : geometry.num_samples(count)], self._cache)
            self._samples = self._samples[count * geometry.hop :]
            frames.append(encoded[0])
            num_frames -= count
        return np.concatenate(frames)
