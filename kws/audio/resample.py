"""Sample rate conversion of a stream, and its division into blocks; both independent of how the stream was chunked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from kws.audio.samples import Waveform
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

MIN_RATE, MAX_RATE = 4_000, 768_000
"""Sample rates accepted, in Hz: from telephone speech to the fastest converters; others are damaged headers."""


class StreamResampler:
    """Converts a stream of waveforms from `source_rate` to `target_rate`; passes it through when the rates are equal.

    The concatenated output of `feed` and `flush` is the same for any chunk sizes. It lags the input by the filter's
    delay until `flush`.

    Raises:
        AudioError: a rate outside 4 kHz..768 kHz.
    """

    def __init__(self, source_rate: int, target_rate: int = SAMPLE_RATE) -> None:
        for rate in (source_rate, target_rate):
            if not MIN_RATE <= rate <= MAX_RATE:
                raise AudioError(f"a sample rate of {rate} Hz was given; expected {MIN_RATE} to {MAX_RATE} Hz")
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.reset()

    def feed(self, waveform: Waveform) -> Waveform:
        """Returns the samples that are ready after `waveform`, (num_samples,) float32 at `source_rate`; maybe none."""
        return waveform if self._stream is None else self._stream.resample_chunk(waveform)

    def flush(self) -> Waveform:
        """Returns the samples still inside, and starts afresh."""
        empty = np.zeros(0, dtype=np.float32)
        rest = empty if self._stream is None else self._stream.resample_chunk(empty, last=True)
        self.reset()
        return rest

    def reset(self) -> None:
        """Forgets the stream so far."""
        self._stream = None
        if self.source_rate != self.target_rate:
            self._stream = soxr.ResampleStream(self.source_rate, self.target_rate, 1, dtype="float32")


def resampled(waveforms: Iterable[Waveform], source_rate: int) -> Iterator[Waveform]:
    """Yields the stream `waveforms` at 16 kHz, tail included; no chunk is empty."""
    resampler = StreamResampler(source_rate)
    for waveform in waveforms:
        ready = resampler.feed(waveform)
        if ready.size:
            yield ready
    rest = resampler.flush()
    if rest.size:
        yield rest


def reblocked(waveforms: Iterable[Waveform], num_samples: int) -> Iterator[Waveform]:
    """Yields the stream `waveforms` in blocks of `num_samples`; the last one may be shorter."""
    pending = np.zeros(0, dtype=np.float32)
    for waveform in waveforms:
        pending = np.concatenate([pending, waveform]) if pending.size else waveform
        num_whole = pending.size - pending.size % num_samples
        for start in range(0, num_whole, num_samples):
            yield pending[start : start + num_samples]
        pending = pending[num_whole:]
    if pending.size:
        yield pending
