"""The detector: weights that threads and streams share, and the stream that owns all state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.samples import as_waveform
from kws.config import check
from kws.detect.gate import Gate, Piece
from kws.detect.head_stream import Heads, HeadStream
from kws.detect.runtime import Backend, RuntimeEncoder, backend_of, check_fits, load_encoder_for
from kws.detect.trigger import ROUNDING, Trigger, smooth
from kws.errors import ArtefactError, ConfigError
from kws.model.artefact import Keyword, WakeWord, load_wakeword
from kws.model.incremental import MAX_FEED_FRAMES, EncoderStream
from kws.model.settings import TriggerConfig


@dataclass(frozen=True)
class Detection:
    """A keyword that was heard.

    Attributes:
        keyword: its name.
        score: the smoothed score that fired, 0 to 1.
        start_s: where it began, in seconds since the stream's first sample (from the keyword's typical length).
        end_s: where it fired, in seconds since the stream's first sample.
    """

    keyword: str
    score: float
    start_s: float
    end_s: float


@dataclass(frozen=True)
class _Group:
    """Wake words on one encoder, whose heads of the same shape are one product."""

    encoder: RuntimeEncoder
    heads: tuple[Heads, ...]

    @classmethod
    def load(cls, wakewords: Sequence[Sequence[WakeWord]], backend: Backend) -> _Group:
        encoder = load_encoder_for(wakewords[0][0], backend)
        for wakeword in itertools.chain(*wakewords):
            check_fits(wakeword, encoder)
        return cls(encoder, tuple(Heads(alike) for alike in wakewords))


class Detector:
    """One or more wake words, loaded; wake words on the same encoder share one pass of it.

    It holds weights only, so that threads and any number of streams can share it.

    Attributes:
        keywords: names in the order of the columns of `scores`.
        geometry: how samples map to frames.

    Args:
        wakewords: at least one.
        backend: "int8" (ONNX, rounded), "onnx" (float32), "torch", or "auto": the first of these that there is.
        block_ms: audio encoded at a time: 0 for the least, which the encoder gives, or a multiple of that. Longer
            blocks cost less, detections are the same and come later.
        gate: whether silence is passed over unheard, its scores 0, which costs nearly nothing.
    """

    def __init__(
        self, wakewords: Sequence[WakeWord], backend: Backend = "auto", block_ms: float = 0, gate: bool = False
    ) -> None:
        grouped: dict[Any, dict[Any, list[WakeWord]]] = {}
        for wakeword in wakewords:
            on_encoder = grouped.setdefault((wakeword.encoder, wakeword.encoder_sha256), {})
            on_encoder.setdefault((wakeword.head, wakeword.num_states), []).append(wakeword)
        groups = [list(on_encoder.values()) for on_encoder in grouped.values()]
        ordered = [wakeword for group in groups for alike in group for wakeword in alike]
        self._keywords: list[Keyword] = [keyword for wakeword in ordered for keyword in wakeword.keywords]
        self.keywords = [keyword.name for keyword in self._keywords]
        _check_unique(self.keywords)
        self._groups = [_Group.load(group, backend) for group in groups]
        if len({group.encoder.geometry for group in self._groups}) > 1:
            raise ArtefactError("the wake words' encoders have different frame rates; load them in separate detectors")
        self.geometry = self._groups[0].encoder.geometry
        self.has_gate = gate
        self._block_frames, self._unit_frames = self._frames_at_a_time(block_ms)

    def _frames_at_a_time(self, block_ms: float) -> tuple[int, int]:
        """Returns the frames of `block_ms`, and those that a gate decides on together: whole steps of each encoder."""
        least = math.lcm(*(group.encoder.stream().block_frames for group in self._groups))
        least_ms = 1000 * least * self.geometry.hop_s
        most_ms = MAX_FEED_FRAMES // least * least_ms
        is_possible = 0 <= block_ms <= most_ms and (block_ms / least_ms).is_integer()
        allowed = f"0, or a multiple of {least_ms:g} ms (this encoder's block) up to {most_ms:g} ms"
        check(is_possible, "block_ms", block_ms, allowed)
        block_frames = self.geometry.frames_in(block_ms / 1000)
        return block_frames, block_frames or least

    @property
    def block_ms(self) -> float:
        """Milliseconds of audio encoded at a time."""
        return 1000 * self._unit_frames * self.geometry.hop_s

    @property
    def backends(self) -> list[Backend]:
        """What runs the encoder of each group of wake words."""
        return [backend_of(group.encoder) for group in self._groups]

    @property
    def triggers(self) -> list[TriggerConfig]:
        """The trigger of each keyword, as its artefact has it."""
        return [keyword.trigger for keyword in self._keywords]

    @property
    def thresholds(self) -> list[float]:
        """The threshold of each keyword, as its artefact has it."""
        return [keyword.trigger.threshold for keyword in self._keywords]

    def scores(self, waveform: Any) -> np.ndarray:
        """Returns (num_frames, num_keywords) float32 scores, 0 to 1, exactly as a stream would have seen them.

        Args:
            waveform: (num_samples,) int16, or float in −1..1, 16 kHz mono.

        Raises:
            AudioError: `waveform` is not such audio.
        """
        stream = self.stream()
        return np.concatenate([stream.feed_scores(waveform), stream.flush_scores()])

    def stream(self) -> Stream:
        """Returns a fresh stream; streams share nothing but the weights."""
        return Stream(self)


class Stream:
    """One audio stream through a `Detector`: the only state. Not for two threads at once."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._encoders = [_open_stream(group.encoder, detector._block_frames) for group in detector._groups]
        self._gate = Gate(detector.geometry, detector._unit_frames) if detector.has_gate else None
        self._heads = [[HeadStream(head) for head in group.heads] for group in detector._groups]
        hop_s = detector.geometry.hop_s
        self._triggers = [Trigger(keyword.trigger, hop_s) for keyword in detector._keywords]
        reach = max(trigger.config.smoothing_frames for trigger in self._triggers) - 1  # of means, over earlier scores
        self._last_scores = _no_scores(len(detector.keywords), reach)
        self._num_frames = 0
        self._pending = [_no_scores(sum(head.num_keywords for head in group.heads)) for group in detector._groups]
        self.recent_scores = np.zeros(len(detector.keywords), np.float32)
        """(num_keywords,) the highest smoothed score of each, as triggers see it, in the last feed that had frames."""

    def feed(self, chunk: Any) -> list[Detection]:
        """Returns the keywords that fired, given the next `chunk` of any length.

        Args:
            chunk: (num_samples,) int16, or float in −1..1, 16 kHz mono.

        Raises:
            AudioError: NaN, infinity, wrong shape or dtype; the stream is as before.
        """
        return self.fire(self.feed_scores(chunk))

    def flush(self) -> list[Detection]:
        """Returns what fires in the last frames, at the end of the audio; the stream is then fresh."""
        detections = self.fire(self.flush_scores())
        self.reset()
        return detections

    def reset(self) -> None:
        """Forgets everything heard; time starts at zero again."""
        self.__init__(self._detector)  # type: ignore[misc]

    def feed_scores(self, chunk: Any) -> np.ndarray:
        """Returns the (num_frames, num_keywords) scores that `chunk` completes, without triggering on them."""
        waveform = as_waveform(chunk)
        self._hear([Piece(waveform, True)] if self._gate is None else self._gate.feed(waveform))
        return self._take_ready()

    def flush_scores(self) -> np.ndarray:
        """Returns the (num_frames, num_keywords) scores still owed at the end of the audio; only triggers remember."""
        if self._gate is not None:
            self._hear(self._gate.flush())
            self._gate = Gate(self._detector.geometry, self._detector._unit_frames)
        for index, encoder in enumerate(self._encoders):
            self._add_frames(index, encoder.flush())
        for head in (head for heads in self._heads for head in heads):
            head.reset()
        return self._take_ready()

    def _hear(self, pieces: Iterable[Piece]) -> None:
        for samples, is_heard in pieces:
            for index, encoder in enumerate(self._encoders):
                if is_heard:
                    self._add_frames(index, encoder.feed(samples))
                else:
                    self._add_scores(index, _no_scores(self._pending[index].shape[1], encoder.skip(samples)))

    def _add_frames(self, index: int, frames: np.ndarray) -> None:
        unit = self._detector._unit_frames  # at a time, however many there are: rounding is then the same
        for start in range(0, len(frames), unit):
            scores = [head.feed(frames[start : start + unit]) for head in self._heads[index]]
            self._add_scores(index, np.concatenate(scores, axis=1))

    def _add_scores(self, index: int, scores: np.ndarray) -> None:
        self._pending[index] = np.concatenate([self._pending[index], scores])

    def _take_ready(self) -> np.ndarray:
        num_ready = min(len(pending) for pending in self._pending)
        ready = np.concatenate([pending[:num_ready] for pending in self._pending], axis=1)
        self._pending = [pending[num_ready:] for pending in self._pending]
        return ready

    def fire(self, scores: np.ndarray) -> list[Detection]:
        """Returns the keywords that fire in the next (num_frames, num_keywords) `scores`, as `feed` does with its own.

        For scores that are there already, from `Detector.scores`.
        """
        if not len(scores):
            return []
        detections, recent = [], self._last_scores
        joined = np.concatenate([recent, scores])
        self.recent_scores = self._highest_smoothed(joined, len(scores))
        thresholds = np.array([trigger.config.threshold for trigger in self._triggers])
        for column in np.flatnonzero(joined.max(axis=0) >= thresholds - ROUNDING):  # no mean exceeds all its values
            keyword, trigger = self._detector._keywords[column], self._triggers[column]
            trigger.skip_to(self._num_frames, recent[:, column])
            for firing in trigger.feed(scores[:, column]):
                end_s = self._detector.geometry.frame_end_s(firing.frame)
                detections.append(Detection(keyword.name, firing.score, max(0.0, end_s - keyword.duration_s), end_s))
        self._last_scores, self._num_frames = joined[len(scores) :], self._num_frames + len(scores)
        return sorted(detections, key=lambda detection: detection.end_s)

    def _highest_smoothed(self, scores: np.ndarray, num_new: int) -> np.ndarray:
        """Returns (num_keywords,) the highest smoothed score of each keyword in the last `num_new` frames."""
        highest = np.zeros(scores.shape[1], np.float32)
        lengths = np.array([trigger.config.smoothing_frames for trigger in self._triggers])
        for length in np.unique(lengths):
            columns = np.flatnonzero(lengths == length)
            seen = scores[len(scores) - num_new - length + 1 :, columns]
            highest[columns] = smooth(seen, int(length)).max(axis=0)
        return highest


def load(*models: Path | str, backend: Backend = "auto", block_ms: float = 0, gate: bool = False) -> Detector:
    """Returns a detector of the wake words `models`: folders, `.kws` files, or names that `kws models` lists.

    Args:
        models: at least one.
        backend: "int8" (ONNX, rounded), "onnx" (float32), "torch", or "auto": the first of these that there is.
        block_ms: audio encoded at a time: 0 for the least, which the encoder gives, or a multiple of that. Longer
            blocks cost less, detections are the same and come later.
        gate: whether silence is passed over unheard, its scores 0, which costs nearly nothing.

    Raises:
        ArtefactError: nothing there, or it is damaged or from another version.
        EncoderError: its encoder can't be found, or not be run by this back end.
        ConfigError: no models, or two keywords of the same name.
    """
    if not models:
        raise ConfigError("no wake word was named; `kws models` lists those that come with kws")
    return Detector([load_wakeword(model) for model in models], backend, block_ms, gate)


def _open_stream(encoder: RuntimeEncoder, step_frames: int) -> EncoderStream:
    stream = encoder.stream()
    stream.step_frames = step_frames or stream.step_frames
    return stream


def _check_unique(keywords: list[str]) -> None:
    twice = sorted({keyword for keyword in keywords if keywords.count(keyword) > 1})
    if twice:
        raise ConfigError(f"keyword '{twice[0]}' is in more than one of the models; load one of them")


def _no_scores(num_keywords: int, num_frames: int = 0) -> np.ndarray:
    return np.zeros((num_frames, num_keywords), np.float32)
