"""The user's own room: recordings or a microphone ─▶ the detector's scores, with the hours that were heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np

from kws.audio.io import read_blocks
from kws.audio.samples import Waveform
from kws.detect.detector import Detector
from kws.errors import AudioError
from kws.frames import SAMPLE_RATE

BLOCK_S = 10.0
"""Seconds of a recording read at a time; scores don't depend on it."""


@dataclass
class Heard:
    """What a detector gave over the user's audio, which must not hold the phrase.

    Attributes:
        hop_s: seconds between two frames.
        names: of the recordings.
        streams: (num_frames, num_keywords) scores of each.
    """

    hop_s: float
    names: list[str] = field(default_factory=list)
    streams: list[np.ndarray] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """How long it is, as its frames say."""
        return sum(map(len, self.streams)) * self.hop_s / 3600

    def add(self, name: str, detector: Detector, blocks: Iterable[Waveform]) -> None:
        """Adds a recording; of one that fails or is broken off, what was heard until then."""
        stream, scores = detector.stream(), [np.zeros((0, len(detector.keywords)), np.float32)]
        try:
            scores += (stream.feed_scores(block) for block in blocks)
        finally:
            self.names.append(name)
            self.streams.append(np.concatenate([*scores, stream.flush_scores()]))


def hear_files(
    detector: Detector,
    paths: Sequence[Path],
    progress: Callable[[int, int], object] = lambda done, total: None,
    skip: Callable[[str], object] = lambda message: None,
) -> Heard:
    """Returns what `detector` gives over the recordings at `paths`, each a stream of its own.

    Raises:
        AudioError: not one can be read.
    """
    heard, skipped = Heard(detector.geometry.hop_s), []
    for index, path in enumerate(paths):
        try:
            heard.add(str(path), detector, read_blocks(path, BLOCK_S))
        except AudioError as error:
            skipped.append(str(error))
            skip(str(error))
        progress(index + 1, len(paths))
    if len(skipped) == len(paths):
        raise AudioError("not one of the recordings can be read:\n" + "\n".join(f"  {line}" for line in skipped))
    return heard


def take_minutes(
    blocks: Iterable[Waveform], minutes: float, progress: Callable[[int, int], object] = lambda done, total: None
) -> Iterable[Waveform]:
    """Yields `blocks` (num_samples,) until they last `minutes`; reports whole minutes, (done, total)."""
    num_samples, total = 0, minutes * 60 * SAMPLE_RATE
    for block in blocks:
        yield block
        before, num_samples = num_samples, num_samples + len(block)
        if num_samples // (60 * SAMPLE_RATE) > before // (60 * SAMPLE_RATE) or num_samples >= total:
            progress(min(ceil(minutes), num_samples // (60 * SAMPLE_RATE)), ceil(minutes))
        if num_samples >= total:
            return
