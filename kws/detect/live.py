"""Live detection: a source of blocks ─▶ one stream ─▶ blocks with their scores and detections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from kws.audio.samples import Waveform
from kws.detect.detector import Detection, Detector


class Heard(NamedTuple):
    """What one block brought: (num_samples,) samples, each keyword's latest score (num_keywords,), detections."""

    block: Waveform
    scores: np.ndarray
    detections: list[Detection]


def follow(detector: Detector, source: Iterable[Waveform]) -> Iterator[Heard]:
    """Yields what each block of `source` brings, and at its end, with an empty block, what was still owed."""
    stream = detector.stream()
    for block in source:
        detections = stream.feed(block)
        yield Heard(block, stream.recent_scores, detections)
    yield Heard(np.zeros(0, np.float32), stream.recent_scores, stream.flush())
