"""Samples, frames and seconds: the one place where the encoder's hop and receptive field are derived."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside the package, in Hz."""


@dataclass(frozen=True)
class FrameGeometry:
    """Maps samples to encoder frames for a stack of pad-free convolutions.

    Frame `i` sees samples `[i * hop, i * hop + receptive_field)`.

    Attributes:
        kernels: kernel width of each convolution, in steps of its input.
        strides: stride of each convolution.
    """

    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def hop(self) -> int:
        """Samples between the starts of two frames (320 for wav2vec2)."""
        return prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """Samples one frame sees (400 for wav2vec2)."""
        field, step = 1, 1
        for kernel, stride in zip(self.kernels, self.strides):
            field += (kernel - 1) * step
            step *= stride
        return field

    @property
    def overlap(self) -> int:
        """Samples that two neighbouring frames share, which a stream must keep (80 for wav2vec2)."""
        return self.receptive_field - self.hop

    @property
    def hop_s(self) -> float:
        """Seconds between two frames."""
        return self.hop / SAMPLE_RATE

    def num_frames(self, num_samples: int) -> int:
        """Returns how many whole frames `num_samples` samples give."""
        return max(0, (num_samples - self.overlap) // self.hop)

    def num_samples(self, num_frames: int) -> int:
        """Returns how many samples `num_frames` frames need."""
        return self.hop * num_frames + self.overlap if num_frames > 0 else 0

    def frames_in(self, seconds: float) -> int:
        """Returns `seconds` as a number of hops, rounded to the nearest."""
        return round(seconds / self.hop_s)

    def frame_end(self, frame: int) -> int:
        """Returns the sample just after the last one that frame `frame` sees."""
        return frame * self.hop + self.receptive_field

    def frame_end_s(self, frame: int) -> float:
        """Returns the time at which frame `frame` has been heard whole, in seconds."""
        return self.frame_end(frame) / SAMPLE_RATE

    def first_frame_from(self, sample: int) -> int:
        """Returns the first frame that ends at or after `sample`."""
        return max(0, -((self.receptive_field - sample) // self.hop))


WAV2VEC2_GEOMETRY = FrameGeometry(kernels=(10, 3, 3, 3, 3, 2, 2), strides=(5, 2, 2, 2, 2, 2, 2))
"""wav2vec 2.0, HuBERT and WavLM share these. Source: Baevski et al. 2020, arXiv:2006.11477, §4.2."""
