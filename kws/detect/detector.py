"""The detector: weights that threads and streams share, and the stream that owns all state."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.audio.samples import as_waveform
from kws.detect.head_stream import HeadStream, NumpyHeads
from kws.detect.runtime import Backend, RuntimeEncoder, check_fits, load_encoder_for
from kws.detect.trigger import Trigger
from kws.errors import ArtefactError, ConfigError
from kws.model.artefact import Keyword, WakeWord, load_wakeword
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
    heads: tuple[NumpyHeads, ...]

    @classmethod
    def load(cls, wakewords: Sequence[Sequence[WakeWord]], backend: Backend) -> _Group:
        encoder = load_encoder_for(wakewords[0][0], backend)
        for wakeword in itertools.chain(*wakewords):
            check_fits(wakeword, encoder)
        return cls(encoder, tuple(NumpyHeads(alike) for alike in wakewords))


class Detector:
    """One or more wake words, loaded; wake words on the same encoder share one pass of it.

    It holds weights only, so that threads and any number of streams can share it.

    Attributes:
        keywords: names in the order of the columns of `scores`.
        geometry: how samples map to frames.

    Args:
        wakewords: at least one.
        backend: "onnx", "int8" (ONNX too, rounded), "torch", or "auto": ONNX where the encoder has a graph, else torch.
    """

    def __init__(self, wakewords: Sequence[WakeWord], backend: Backend = "auto") -> None:
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
        self._encoders = [group.encoder.stream() for group in detector._groups]
        self._heads = [[HeadStream(head) for head in group.heads] for group in detector._groups]
        hop_s = detector.geometry.hop_s
        self._triggers = [Trigger(keyword.trigger, hop_s) for keyword in detector._keywords]
        self._pending = [_no_scores(sum(head.num_keywords for head in group.heads)) for group in detector._groups]
        self.recent_scores = np.zeros(len(detector.keywords), np.float32)
        """(num_keywords,) the highest score of each keyword in the frames of the last feed that had any."""

    def feed(self, chunk: Any) -> list[Detection]:
        """Returns the keywords that fired, given the next `chunk` of any length.

        Args:
            chunk: (num_samples,) int16, or float in −1..1, 16 kHz mono.

        Raises:
            AudioError: NaN, infinity, wrong shape or dtype; the stream is as before.
        """
        return self._fire(self.feed_scores(chunk))

    def flush(self) -> list[Detection]:
        """Returns what fires in the last frames, at the end of the audio; the stream is then fresh."""
        detections = self._fire(self.flush_scores())
        self.reset()
        return detections

    def reset(self) -> None:
        """Forgets everything heard; time starts at zero again."""
        self.__init__(self._detector)  # type: ignore[misc]

    def feed_scores(self, chunk: Any) -> np.ndarray:
        """Returns the (num_frames, num_keywords) scores that `chunk` completes, without triggering on them."""
        waveform = as_waveform(chunk)
        return self._score([encoder.feed(waveform) for encoder in self._encoders])

    def flush_scores(self) -> np.ndarray:
        """Returns the (num_frames, num_keywords) scores still owed at the end of the audio; only triggers remember."""
        scores = self._score([encoder.flush() for encoder in self._encoders])
        for head in (head for heads in self._heads for head in heads):
            head.reset()
        return scores

    def _score(self, frames: list[np.ndarray]) -> np.ndarray:
        for index, heads in enumerate(self._heads):
            scores = np.concatenate([head.feed(frames[index]) for head in heads], axis=1)
            self._pending[index] = np.concatenate([self._pending[index], scores])
        num_ready = min(len(pending) for pending in self._pending)
        ready = np.concatenate([pending[:num_ready] for pending in self._pending], axis=1)
        self._pending = [pending[num_ready:] for pending in self._pending]
        if num_ready:
            self.recent_scores = ready.max(axis=0)
        return ready

    def _fire(self, scores: np.ndarray) -> list[Detection]:
        geometry, detections = self._detector.geometry, []
        for column, (keyword, trigger) in enumerate(zip(self._detector._keywords, self._triggers)):
            for firing in trigger.feed(scores[:, column]):
                end_s = geometry.frame_end_s(firing.frame)
                detections.append(Detection(keyword.name, firing.score, max(0.0, end_s - keyword.duration_s), end_s))
        return sorted(detections, key=lambda detection: detection.end_s)


def load(*models: Path | str, backend: Backend = "auto") -> Detector:
    """Returns a detector of the wake words `models`: folders, `.kws` files, or names that `kws models` lists.

    Args:
        backend: "onnx", "int8" (ONNX too, rounded), "torch", or "auto": ONNX where the encoder has a graph, else torch.

    Raises:
        ArtefactError: nothing there, or it is damaged or from another version.
        EncoderError: its encoder can't be found, or not be run by this back end.
        ConfigError: no models, or two keywords of the same name.
    """
    if not models:
        raise ConfigError("no wake word was named; `kws models` lists those that come with kws")
    return Detector([load_wakeword(model) for model in models], backend)


def _check_unique(keywords: list[str]) -> None:
    twice = sorted({keyword for keyword in keywords if keywords.count(keyword) > 1})
    if twice:
        raise ConfigError(f"keyword '{twice[0]}' is in more than one of the models; load one of them")


def _no_scores(num_keywords: int) -> np.ndarray:
    return np.zeros((0, num_keywords), np.float32)
