"""The state of one stream through an encoder that streams exactly: samples ─▶ whole blocks ─▶ frames; no torch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from kws.audio.samples import as_waveform
from kws.frames import FrameGeometry

MAX_FEED_FRAMES = 512
"""Frames encoded in one pass at most, so that a long file costs memory for about ten seconds of it."""


class EncoderStream(Protocol):
    """One stream through an encoder: all its state, and none of its weights.

    Attributes:
        block_frames: least frames that it gives at a time, except at the end.
        step_frames: frames that it encodes at a time, whole blocks; fewer give results sooner, more cost less. 0: as
            many as the samples allow. Set it before the first `feed`.
    """

    step_frames: int

    @property
    def block_frames(self) -> int: ...

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, dim) float32 frames that `samples` (num_samples,) completes."""

    def skip(self, samples: np.ndarray) -> int:
        """Passes over the frames that `samples` completes, and returns how many.

        Later frames are as if these had never been; only samples that both see count. What was fed before must have
        been whole steps.
        """

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
    """One stream through a `StepEncoder`: the samples not encoded yet, and the network's cache.

    Args:
        encoder: the network.
        step_frames: frames encoded at a time. With 0, how the audio is cut decides, and with it rounding: which is
            faster for long audio, but frames then depend on the cutting in their last bits.
    """

    def __init__(self, encoder: StepEncoder, step_frames: int = 0) -> None:
        self.encoder = encoder
        self.step_frames = step_frames
        self.reset()

    @property
    def block_frames(self) -> int:
        """Frames that are encoded together."""
        return self.encoder.block_frames

    def reset(self) -> None:
        """Forgets everything heard."""
        self._samples = np.zeros(0, np.float32)
        self._cache = self.encoder.initial_cache()

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Returns the (num_frames, dim) float32 frames of the blocks that `samples` completes.

        Raises:
            AudioError: `samples` is not a waveform; the stream is as before.
        """
        step = self.step_frames or self.block_frames
        return self._encode(self._add(samples) // step * step)

    def skip(self, samples: np.ndarray) -> int:
        """Passes over the frames that `samples` completes, and returns how many; the network's cache stays."""
        num_frames = self._add(samples)
        self._samples = self._samples[num_frames * self.encoder.geometry.hop :]
        return num_frames

    def flush(self) -> np.ndarray:
        """Returns the frames of the last, partial block; the stream is then fresh."""
        frames = self._encode(self._add(np.zeros(0, np.float32)))
        self.reset()
        return frames

    def _add(self, samples: np.ndarray) -> int:
        self._samples = np.concatenate([self._samples, as_waveform(samples)])
        return self.encoder.geometry.num_frames(len(self._samples))

    def _encode(self, num_frames: int) -> np.ndarray:
        geometry, block = self.encoder.geometry, self.encoder.block_frames
        most = self.step_frames or max(1, MAX_FEED_FRAMES // block) * block
        frames = [np.zeros((0, self.encoder.dim), np.float32)]
        while num_frames > 0:
            count = min(num_frames, most)
            encoded, self._cache = self.encoder.step(self._samples[None, : geometry.num_samples(count)], self._cache)
            self._samples = self._samples[count * geometry.hop :]
            frames.append(encoded[0])
            num_frames -= count
        return np.concatenate(frames)
