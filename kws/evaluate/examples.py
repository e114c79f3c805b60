"""The recordings worth hearing: the worst misses and the loudest false alarms, as clips with their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kws.audio.io import read_blocks
from kws.detect.trigger import Trigger
from kws.evaluate.heard import Phone, spell
from kws.evaluate.material import Material
from kws.evaluate.metrics import smoothed_scores
from kws.evaluate.protocol import BACKGROUND_S, NegativeScores, Part
from kws.frames import SAMPLE_RATE, FrameGeometry
from kws.model.settings import TriggerConfig

BEFORE_S, AFTER_S = 2.0, 1.0
"""What is heard around an alarm, in seconds."""
READ_S = 1.0


@dataclass(frozen=True)
class Example:
    """One clip.

    Attributes:
        source: the recording it is from.
        where: "clean", "10 dB", or the source of negatives.
        at_s: where its score is marked, in seconds of the recording.
        peak: its highest smoothed score, 0 to 1.
        is_alarm: whether the trigger fired there.
        waveform: (num_samples,) what the detector heard.
        scores: (num_frames,) smoothed, as the trigger sees them.
        times_s: (num_frames,) when each is known, in seconds of the clip.
        mark_s: where it fired, or where its score is highest, in seconds of the clip.
        heard: by the output layer, in seconds of the clip; None where the encoder has none.
    """

    source: Path
    where: str
    at_s: float
    peak: float
    is_alarm: bool
    waveform: np.ndarray
    scores: np.ndarray
    times_s: np.ndarray
    mark_s: float
    heard: Sequence[Phone] | None = None

    @property
    def duration_s(self) -> float:
        """Length of the clip, in seconds."""
        return len(self.waveform) / SAMPLE_RATE

    def to_dict(self) -> dict[str, Any]:
        """Returns what it is, without the audio, for JSON."""
        return {
            "source": str(self.source),
            "where": self.where,
            "at_s": round(self.at_s, 3),
            "peak_score": self.peak,
            "is_alarm": self.is_alarm,
            "heard": None if self.heard is None else spell(self.heard),
        }


class Event(NamedTuple):
    """A place in a stream of negatives: its highest smoothed score, and the frame that fired or that is highest."""

    peak: float
    frame: int
    is_alarm: bool


def worst_misses(
    material: Material,
    condition: str,
    scores: Sequence[np.ndarray],
    trigger: TriggerConfig,
    geometry: FrameGeometry,
    most: int,
) -> Iterator[Example]:
    """Yields the positives in which nothing fires, at most `most`, the lowest peak first.

    Args:
        material: what was heard.
        condition: one of its conditions.
        scores: (num_frames,) of each positive there.
        trigger: with the threshold that decides.
        geometry: of the encoder.
        most: how many.
    """
    smoothed = [smoothed_scores(clip, trigger) for clip in scores]
    has_fired = [bool(Trigger(trigger, geometry.hop_s).feed_smoothed(clip)) for clip in smoothed]
    missed = [index for index, fired in enumerate(has_fired) if not fired]
    for index in sorted(missed, key=lambda index: _peak(smoothed[index]))[:most]:
        clip = smoothed[index]
        mark_s = geometry.frame_end_s(int(clip.argmax())) if len(clip) else 0.0
        yield Example(
            source=material.positives[index].path,
            where=condition,
            at_s=max(0.0, mark_s - BACKGROUND_S),
            peak=_peak(clip),
            is_alarm=False,
            waveform=material.positive(index, condition),
            scores=clip,
            times_s=_frame_times_s(np.arange(len(clip)), geometry),
            mark_s=mark_s,
        )


def loudest(
    negatives: Sequence[NegativeScores], column: int, trigger: TriggerConfig, geometry: FrameGeometry, most: int
) -> Iterator[Example]:
    """Yields the loudest false alarms, at most `most`; where there are fewer, then what came nearest to one.

    Args:
        negatives: from `score_negatives`.
        column: which keyword.
        trigger: with the threshold that decides.
        geometry: of the encoder.
        most: how many.
    """
    found = [
        (event, source, stream)
        for source in negatives
        for stream, scores in enumerate(source.streams)
        for event in find_events(smoothed_scores(scores[:, column], trigger), trigger, geometry.hop_s, most)
    ]
    found.sort(key=lambda entry: (not entry[0].is_alarm, -entry[0].peak))
    for event, source, stream in found[:most]:
        scores, parts = smoothed_scores(source.streams[stream][:, column], trigger), source.parts[stream]
        at_s = geometry.frame_end_s(event.frame)
        start_s = max(0.0, at_s - BEFORE_S)
        end_s = min(at_s + AFTER_S, parts[-1].start_s + parts[-1].duration_s)
        times_s = _frame_times_s(np.arange(len(scores)), geometry)
        is_in = (times_s >= start_s) & (times_s <= end_s)
        part = [part for part in parts if part.start_s <= at_s][-1]
        yield Example(
            source=part.path,
            where=source.name,
            at_s=min(at_s - part.start_s, part.duration_s),
            peak=event.peak,
            is_alarm=event.is_alarm,
            waveform=cut(parts, start_s, max(end_s, start_s + geometry.hop_s)),
            scores=scores[is_in],
            times_s=times_s[is_in] - start_s,
            mark_s=at_s - start_s,
        )


def find_events(smoothed: np.ndarray, trigger: TriggerConfig, hop_s: float, most: int) -> list[Event]:
    """Returns the firings in `smoothed` (num_frames,), then the `most` highest places without one, a refractory apart.

    A firing's peak is the highest score within the refractory period after it.
    """
    clock = Trigger(trigger, hop_s)
    reach = max(1, clock.refractory_frames)
    rest, events = np.array(smoothed, np.float64), []
    for firing in clock.feed_smoothed(smoothed):
        peak = float(smoothed[firing.frame : firing.frame + reach].max())
        events.append(Event(peak, firing.frame, True))
        rest[max(0, firing.frame - reach) : firing.frame + reach] = -1
    for _ in range(most):
        frame = int(rest.argmax()) if len(rest) else 0
        if not len(rest) or rest[frame] <= 0:
            break
        events.append(Event(float(rest[frame]), frame, False))
        rest[max(0, frame - reach) : frame + reach] = -1
    return events


def cut(parts: Sequence[Part], start_s: float, end_s: float) -> np.ndarray:
    """Returns `start_s` to `end_s` of the stream that `parts` were joined to, (num_samples,), silent between parts."""
    start, end = round(start_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE)
    waveform = np.zeros(end - start, np.float32)
    for part in parts:
        part_start = round(part.start_s * SAMPLE_RATE)
        part_end = part_start + round(part.duration_s * SAMPLE_RATE)
        first, last = max(start, part_start), min(end, part_end)
        if first < last:
            waveform[first - start : last - start] = _read_piece(part.path, first - part_start, last - part_start)
    return waveform


def _read_piece(path: Path, start: int, end: int) -> np.ndarray:
    block = round(READ_S * SAMPLE_RATE)
    skipped = start // block
    blocks = list(islice(read_blocks(path, READ_S), skipped, ceil(end / block)))
    return np.concatenate(blocks)[start - skipped * block : end - skipped * block]


def _frame_times_s(frames: np.ndarray, geometry: FrameGeometry) -> np.ndarray:
    return (frames * geometry.hop + geometry.receptive_field) / SAMPLE_RATE


def _peak(smoothed: np.ndarray) -> float:
    return float(smoothed.max()) if len(smoothed) else 0.0
