"""The evaluation protocol: recordings ─▶ clips with background around them, continuous negatives ─▶ scores ─▶ rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.io import read_audio, read_batch, read_blocks
from kws.data.manifest import Clip
from kws.data.mix import active_rms, coloured_noise, mix_first_heard, random_piece
from kws.detect.detector import Detector
from kws.errors import AudioError, ConfigError
from kws.evaluate.metrics import (
    REPORTED_FALSE_ALARMS_PER_HOUR,
    OperatingPoint,
    count_firings,
    det_curves,
    point_at,
    poisson_interval,
)
from kws.frames import SAMPLE_RATE
from kws.model.settings import TriggerConfig

BACKGROUND_S = 1.0
"""Background before and after each positive, in seconds."""
TALK_S = 6.0
"""Other people's talk before a positive that is heard after talk, in seconds."""
GAP_S = 0.3
"""Between two recordings that are joined to continuous audio, in seconds."""
FLOOR_DB = -70.0
"""Level of the faint noise where a recording has no background of its own, in dB of full scale."""
STREAM_S = 600.0
"""Length after which joined recordings begin a new stream, in seconds; a longer recording stays whole."""
BLOCK_S = 10.0
"""Seconds of audio read at a time; scores don't depend on it."""
_DRAWS = 20
_NUM_TALKS, _LONGEST_TALK_S, _SILENT_RMS = 32, 30.0, 1e-3

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Part:
    """One recording within a stream of several: its file, where it begins in the stream, and how long it is."""

    path: Path
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class NegativeScores:
    """Scores of continuous audio without the keywords.

    Attributes:
        name: where the audio is from.
        streams: (num_frames, num_keywords) each.
        parts: the recordings of each stream, in order.
    """

    name: str
    streams: list[np.ndarray]
    parts: list[list[Part]] = field(default_factory=list)


def readable(clips: Sequence[Clip], warn: Callable[[str], object]) -> tuple[list[Clip], list[str]]:
    """Returns the clips that can be read, and a message for each other one.

    Raises:
        AudioError: not one can be read.
    """
    batch = read_batch([clip.path for clip in clips], warn)
    read = {path for path, _ in batch}
    return [clip for clip in clips if clip.path in read], batch.skipped


@dataclass(frozen=True)
class Condition:
    """What positives are heard in.

    Attributes:
        snr_db: ratio of the recording to the noise mixed over it; None leaves it clean.
        noises: recordings of noise; none with an SNR means pink noise.
        talk: (num_samples,) waveforms without a keyword, of which `TALK_S`, as loud as the recording, are heard before
            it; see `read_talk`.
    """

    snr_db: float | None = None
    noises: Sequence[Clip] = ()
    talk: Sequence[np.ndarray] = ()

    @property
    def lead_samples(self) -> int:
        """Samples of talk before the background in which the recording is."""
        return round(TALK_S * SAMPLE_RATE) if self.talk else 0

    def around(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns `waveform` (num_samples,) in its background, a second on either side, after the talk.

        Raises:
            AudioError: the noise is silent wherever the recording isn't.
        """
        heard = with_background(waveform, self.snr_db, self.noises, rng)
        if not self.talk:
            return heard
        talk = random_piece(self.talk[int(rng.integers(len(self.talk)))], self.lead_samples, rng)
        return np.concatenate([talk * (active_rms(heard) / max(active_rms(talk), _SILENT_RMS)), heard]).astype(
            np.float32
        )


def read_talk(clips: Sequence[Clip], seed: int) -> list[np.ndarray]:
    """Returns the beginnings, (num_samples,) each, of some of `clips`: none that is silent or that can't be read."""
    talk: list[np.ndarray] = []
    for index in np.random.default_rng([seed, _NUM_TALKS]).permutation(len(clips)):
        try:
            beginning = next(iter(read_blocks(clips[index].path, _LONGEST_TALK_S)))
        except (AudioError, StopIteration):
            continue
        if active_rms(beginning) > _SILENT_RMS:
            talk.append(beginning)
        if len(talk) == _NUM_TALKS:
            break
    return talk


def score_positives(
    detector: Detector,
    clips: Sequence[Clip],
    condition: Condition,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> list[np.ndarray]:
    """Returns the (num_frames, num_keywords) scores of each clip in its background, without those of talk before it.

    Args:
        clips: recordings that hold a keyword once each.
        condition: what they are heard in.
        seed: of the draws of noise and talk, the same for every detector that is compared.
        progress: called with (done, total) clips.
    """
    scores, first = [], condition.lead_samples // detector.geometry.hop
    for index, clip in enumerate(clips):
        heard = condition.around(read_audio(clip.path), np.random.default_rng([seed, index]))
        scores.append(detector.scores(heard)[first:])
        progress(index + 1, len(clips))
    return scores


def with_background(
    waveform: np.ndarray, snr_db: float | None, noises: Sequence[Clip], rng: np.random.Generator
) -> np.ndarray:
    """Returns `waveform` (num_samples,) with a second of background on either side, mixed with noise at `snr_db`."""
    padded = np.pad(waveform, round(BACKGROUND_S * SAMPLE_RATE))
    padded += coloured_noise(len(padded), 1.0, rng) * np.float32(10 ** (FLOOR_DB / 20))
    if snr_db is None:
        return padded

    def draw() -> np.ndarray:
        if not noises:
            return coloured_noise(len(padded), 1.0, rng)
        return random_piece(read_audio(noises[int(rng.integers(len(noises)))].path), len(padded), rng)

    mixture = mix_first_heard(padded, (draw() for _ in range(_DRAWS)), snr_db)
    if mixture is None:
        raise AudioError("the noise recordings are silent; name others")
    return mixture.waveform


def score_negatives(
    detector: Detector,
    name: str,
    clips: Sequence[Clip],
    progress: Progress = lambda done, total: None,
    skip: Callable[[str], object] | None = None,
) -> NegativeScores:
    """Returns the scores of `clips`, joined in their order to continuous audio; memory doesn't grow with their length.

    Args:
        detector: what listens.
        name: where the audio is from.
        clips: recordings that never hold a keyword.
        progress: called with (done, total) clips.
        skip: called with the message of each recording that can't be read; without it, that is an error.

    Raises:
        AudioError: a recording that can't be read, or, with `skip`, not one that can.
    """
    rng = np.random.default_rng(0)
    joined, scored = _Joined(detector), NegativeScores(name, [])
    for index, clip in enumerate(clips):
        gap = coloured_noise(round(GAP_S * SAMPLE_RATE), 1.0, rng) * np.float32(10 ** (FLOOR_DB / 20))
        try:
            joined.add(clip.path, gap)
        except AudioError as error:
            if skip is None:
                raise
            skip(str(error))
        if joined.num_samples >= STREAM_S * SAMPLE_RATE:
            joined.close(scored)
        progress(index + 1, len(clips))
    if joined.num_samples:
        joined.close(scored)
    if not any(scored.parts):
        raise AudioError(f"not one recording in {name} can be read; name a folder of audio files")
    return scored


class _Joined:
    """Recordings on their way through one stream of the detector, block by block."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._open()

    def _open(self) -> None:
        self._stream, self.num_samples = self._detector.stream(), 0
        self._scores: list[np.ndarray] = []
        self._parts: list[Part] = []

    def add(self, path: Path, gap: np.ndarray) -> None:
        start = self.num_samples
        try:
            for block in read_blocks(path, BLOCK_S):
                self._feed(block)
        finally:  # of a file that is damaged further on, what was heard counts
            if self.num_samples > start:
                duration_s = (self.num_samples - start) / SAMPLE_RATE
                self._parts.append(Part(path, start / SAMPLE_RATE, duration_s))
                self._feed(gap)

    def _feed(self, waveform: np.ndarray) -> None:
        self._scores.append(self._stream.feed_scores(waveform))
        self.num_samples += len(waveform)

    def close(self, scored: NegativeScores) -> None:
        scored.streams.append(np.concatenate([*self._scores, self._stream.flush_scores()]))
        scored.parts.append(self._parts)
        self._open()


@dataclass(frozen=True)
class Evaluation:
    """What was measured of one keyword.

    Attributes:
        keyword: its name.
        trigger: the trigger it was measured with; its threshold is the artefact's.
        hop_s: seconds between two frames.
        curves: the DET curve of each condition ("clean", "10 dB").
        at_threshold: the artefact's own threshold in each condition.
        false_alarms: (source, count at the artefact's threshold, hours) of each source of negatives.
    """

    keyword: str
    trigger: TriggerConfig
    hop_s: float
    curves: Mapping[str, Sequence[OperatingPoint]]
    at_threshold: Mapping[str, OperatingPoint]
    false_alarms: Sequence[tuple[str, int, float]]

    def trigger_at(self, threshold: float) -> TriggerConfig:
        """Returns the trigger with another threshold."""
        return replace(self.trigger, threshold=threshold)

    def to_dict(self) -> dict[str, Any]:
        """Returns counts, rates, hours and intervals for JSON."""
        return {
            "keyword": self.keyword,
            "conditions": {
                name: {
                    "at_threshold": self.at_threshold[name].to_dict(),
                    "at_false_alarms_per_hour": {
                        str(rate): point_at(curve, rate).to_dict() for rate in REPORTED_FALSE_ALARMS_PER_HOUR
                    },
                    "curve": [[point.threshold, point.num_missed, point.num_false_alarms] for point in curve],
                }
                for name, curve in self.curves.items()
            },
            "false_alarms_at_threshold": [
                {
                    "source": source,
                    "num_false_alarms": count,
                    "hours": hours,
                    "per_hour_interval": poisson_interval(count, hours),
                }
                for source, count, hours in self.false_alarms
            ],
        }


def evaluate(
    detector: Detector,
    keyword: str,
    positives: Mapping[str, Sequence[np.ndarray]],
    negatives: Sequence[NegativeScores],
) -> Evaluation:
    """Returns what the scores of `keyword` give.

    Args:
        positives: for each condition, the scores of every clip (`score_positives`).
        negatives: from `score_negatives`.

    Raises:
        ConfigError: the detector has no such keyword.
    """
    if keyword not in detector.keywords:
        raise ConfigError(f"no keyword '{keyword}'; there are: {', '.join(detector.keywords)}")
    column, hop_s = detector.keywords.index(keyword), detector.geometry.hop_s
    trigger = detector.triggers[column]
    streams = [scores[:, column] for source in negatives for scores in source.streams]
    clips = {name: [scores[:, column] for scores in condition] for name, condition in positives.items()}
    return Evaluation(
        keyword,
        trigger,
        hop_s,
        det_curves(clips, streams, trigger, hop_s),
        {name: curve[0] for name, curve in det_curves(clips, streams, trigger, hop_s, [trigger.threshold]).items()},
        [
            (
                source.name,
                sum(count_firings(scores[:, column], trigger, hop_s) for scores in source.streams),
                sum(len(scores) for scores in source.streams) * hop_s / 3600,
            )
            for source in negatives
        ],
    )
