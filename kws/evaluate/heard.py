"""What an encoder's removed output layer hears: samples ─▶ frames ─▶ labels ─▶ greedy CTC ─▶ phones with times.

Off the detection path, and on NumPy alone where the encoder comes as a graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from kws.detect.runtime import RuntimeEncoder
from kws.errors import EncoderError, require
from kws.frames import FrameGeometry
from kws.model.encoder_folder import (
    OUTPUT_LAYER_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    find_encoder_folder,
    read_json,
)
from kws.model.graphs import graph_problem, load_onnx_encoder
from kws.model.settings import EncoderConfig

BOUNDARY = "|"
"""The label between words."""
BLANKS = ("<blank>", "<pad>", "[PAD]")
"""How CTC's blank may be called; without any of them it is the first label."""
WEIGHT, BIAS = "lm_head.weight", "lm_head.bias"


@dataclass(frozen=True)
class Phone:
    """One label that was heard.

    Attributes:
        label: a phone, a letter where the encoder knows letters, or `BOUNDARY`.
        start_s: where its first frame begins, in seconds since the audio's first sample.
        end_s: where its last frame ends; CTC's labels are spikes, so this is not how long it was spoken.
        probability: the highest that its frames gave it, 0 to 1.
    """

    label: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class OutputWeights:
    """The removed output layer: weight (num_labels, dim) and bias (num_labels,) float32, and the labels' names."""

    weight: np.ndarray
    bias: np.ndarray
    labels: tuple[str, ...]

    @property
    def blank(self) -> int:
        """Which label says that nothing new was heard."""
        return next((self.labels.index(name) for name in BLANKS if name in self.labels), 0)

    def log_probabilities(self, frames: np.ndarray) -> np.ndarray:
        """Returns (num_frames, num_labels) float32 of (num_frames, dim) frames."""
        logits = frames @ self.weight.T + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


class Listener:
    """An encoder with its output layer put back; it holds weights only.

    Args:
        settings: which encoder; of wake words that use a part of it, the whole is loaded, as the output layer needs.

    Raises:
        EncoderError: it can't be found or run, or has no output layer.
        DependencyError: it needs torch, which is not installed.
    """

    def __init__(self, settings: EncoderConfig) -> None:
        settings = replace(settings, layers=0, layer="last", trainable_layers=0)
        self._encoder: Any = _load_encoder(settings)
        self.output = _output_weights(self._encoder, settings.name)

    @property
    def geometry(self) -> FrameGeometry:
        """How samples map to frames."""
        return self._encoder.geometry

    def hear(self, waveform: np.ndarray) -> list[Phone]:
        """Returns the phones in `waveform` (num_samples,), as `hear_blocks`."""
        return self.hear_blocks([waveform])

    def hear_blocks(self, blocks: Iterable[np.ndarray]) -> list[Phone]:
        """Returns the phones in a stream of `blocks` (num_samples,), the most likely label of each frame.

        Raises:
            AudioError: a block that is not a waveform.
        """
        stream = self._encoder.stream()
        best: list[np.ndarray] = []
        for frames in (*map(stream.feed, blocks), stream.flush()):
            log_probabilities = self.output.log_probabilities(frames)
            best.append(np.stack([log_probabilities.argmax(axis=1), log_probabilities.max(axis=1)], axis=1))
        labels, log_probabilities = np.concatenate(best).T
        return merge_repeats(
            labels.astype(int), np.exp(log_probabilities), self.output.labels, self.output.blank, self.geometry
        )


def merge_repeats(
    best: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], blank: int, geometry: FrameGeometry
) -> list[Phone]:
    """Returns the phones of a greedy CTC path: repeats are one, blanks none.

    Args:
        best: (num_frames,) the most likely label of each frame.
        probabilities: (num_frames,) of it.
        labels: names by index.
        blank: index of the blank.
        geometry: of the encoder.

    Source: Graves et al. 2006, "Connectionist temporal classification", best path decoding.
    """
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], len(best))
    return [
        Phone(
            labels[int(best[start])],
            float(start * geometry.hop_s),
            float(geometry.frame_end_s(int(end) - 1)),
            float(probabilities[start:end].max()),
        )
        for start, end in zip(starts, ends)
        if best[start] != blank
    ]


def between(phones: Iterable[Phone], start_s: float, end_s: float) -> list[Phone]:
    """Returns the phones that begin within `start_s` to `end_s`."""
    return [phone for phone in phones if start_s <= phone.start_s <= end_s]


def spell(phones: Sequence[Phone]) -> str:
    """Returns the labels of `phones` as text, words apart."""
    words = " ".join(phone.label for phone in phones).split(BOUNDARY)
    return f" {BOUNDARY} ".join(word.strip() for word in words if word.strip())


def utterances(phones: Sequence[Phone], pause_s: float = 0.5) -> list[list[Phone]]:
    """Returns `phones` cut where none begins for longer than `pause_s`; word boundaries alone are left out."""
    cut: list[list[Phone]] = []
    for phone in phones:
        if cut and phone.start_s - cut[-1][-1].start_s <= pause_s:
            cut[-1].append(phone)
        elif phone.label != BOUNDARY:
            cut.append([phone])
    return cut


def _load_encoder(settings: EncoderConfig) -> RuntimeEncoder:
    if not graph_problem(settings):
        return load_onnx_encoder(settings)
    require("torch", "train")
    from kws.model.pretrained import build_encoder

    return build_encoder(settings)


def _output_weights(encoder: Any, name: str) -> OutputWeights:
    output = getattr(encoder, "output_layer", None)
    if output is not None:  # a torch encoder read it already
        return OutputWeights(output.weight.detach().numpy(), output.bias.detach().numpy(), output.labels)
    folder = find_encoder_folder(name)
    weights = _read_weights(folder) if folder is not None else None
    if folder is None or weights is None:
        raise EncoderError(f"the encoder '{name}' comes without an output layer, so it can't say what it heard")
    vocabulary = read_json(folder / VOCABULARY_FILE)
    labels = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    weight, bias = weights
    if weight.shape != (len(labels), encoder.dim) or bias.shape != (len(labels),):
        raise EncoderError(
            f"the output layer in {folder} is {weight.shape}; {len(labels)} labels and frames of {encoder.dim} were "
            "expected: fetch the encoder again"
        )
    return OutputWeights(weight, bias, labels)


def _read_weights(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    for path in (folder / OUTPUT_LAYER_FILE, folder / WEIGHTS_FILE):
        try:
            arrays = load_safetensors(path.read_bytes()) if path.is_file() else {}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise EncoderError(f"{path} can't be read ({error}); fetch the encoder again") from error
        if WEIGHT in arrays and BIAS in arrays:
            return arrays[WEIGHT].astype(np.float32), arrays[BIAS].astype(np.float32)
    return None
