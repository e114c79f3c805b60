"""The step of a streaming encoder with its linear layers in int8: folder ─▶ ranges of activations ─▶ graph.

Weights are rounded when the graph is loaded, one scale a column; activations with fixed scales, measured here once, so
that frames don't depend on how the audio was cut into chunks. Source: Jacob et al. 2018, arXiv:1712.05877.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kws.data.mix import coloured_noise, mix_at_snr
from kws.data.synth import draw_voice, speak
from kws.data.text import random_sentence
from kws.detect.runtime import RuntimeEncoder
from kws.errors import EncoderError
from kws.export.step_graph import CONTRIBUTED, StepGraph, step_graph
from kws.frames import SAMPLE_RATE
from kws.model.encoder_folder import StreamingConfig, find_encoder_folder, read_streaming_config
from kws.model.files import write_atomically
from kws.model.onnx_encoder import WEIGHTS_KEY, OnnxEncoder, cut, step_file
from kws.model.onnx_session import open_session
from kws.model.settings import EncoderConfig

NUM_SENTENCES = 40
MAX_RELATIVE_ERROR = 0.1
"""Largest root mean square difference from float32 frames that is written, relative to theirs."""
COVERED = 99.999
"""Percentage of the activations that the range holds; what lies beyond is clipped."""


def export_int8(folder: Path | str, audio: Sequence[np.ndarray] = (), layers: int = 0) -> tuple[Path, float]:
    """Writes the int8 graph of a step into the streaming encoder's `folder` (or shipped name).

    Args:
        folder: the encoder's, with the float32 graph of as many layers in it.
        audio: speech as (num_samples,) float32, 16 kHz, to measure ranges on; without any, synthetic speech in noise.
        layers: only the first so many (0: all).

    Returns:
        The file, and the relative root mean square error of its frames on audio that the ranges weren't measured on.

    Raises:
        EncoderError: no streaming encoder there, or int8 changes its frames too much; nothing was written.
    """
    found = find_encoder_folder(str(folder))
    config = read_streaming_config(found) if found else None
    if found is None or config is None:
        raise EncoderError(f"{folder} holds no streaming encoder")
    settings, path = EncoderConfig(name=str(found), layers=layers), found / step_file(config, layers, "int8")
    config = cut(config, layers)
    exact = OnnxEncoder(found, settings)
    audio = list(audio) or calibration_audio(np.random.default_rng(0))
    ranges = activation_ranges(exact, config, audio[::2])
    graph = step_graph(Int8Graph(config, ranges, exact.sha256))
    rounded = OnnxEncoder(found, settings, precision="int8", graph=graph)
    error = relative_error(exact, rounded, audio[1::2])
    if not error <= MAX_RELATIVE_ERROR:
        raise EncoderError(f"int8 changes the frames of {found} by {error:.1%}, allowed {MAX_RELATIVE_ERROR:.0%}")
    write_atomically(path, graph)
    return path, error


class Int8Graph(StepGraph):
    """A step whose linear layers multiply int8 by uint8.

    Args:
        config: of the encoder.
        ranges: lowest and highest activation before each linear layer.
        weights_sha256: of the weights that they were measured with.
    """

    def __init__(self, config: StreamingConfig, ranges: Mapping[str, tuple[float, float]], weights_sha256: str) -> None:
        super().__init__(config)
        self._ranges, self._weights_sha256 = ranges, weights_sha256

    def linear(self, rows: str, *names: str, scale: float = 1.0) -> str:
        low, high = self._ranges[names[0]]
        step = (high - low) / 255
        input_scale = self.constant(step, np.float32)
        input_zero = self.constant(round(-low / step), np.uint8)
        quantised = self.op("QuantizeLinear", rows, input_scale, input_zero)
        weight = self.side_by_side(names, "int8", axis=1)  # (in, out)
        weight_scale, bias = (self.side_by_side(names, part, scale) for part in ("scale", "bias"))
        inputs = [quantised, weight, input_scale, weight_scale, input_zero, "", bias]
        return self.op("MatMulIntegerToFloat", *inputs, domain=CONTRIBUTED)

    def metadata(self) -> dict[str, str]:
        return super().metadata() | {WEIGHTS_KEY: self._weights_sha256}

    def weights(self) -> Mapping[str, tuple[tuple[int, ...], type]]:
        weights = dict(super().weights())
        for name in self.config.linear_names():
            (outputs, inputs), _ = weights.pop(f"{name}.weight")
            weights |= {f"{name}.int8": ((inputs, outputs), np.int8), f"{name}.scale": ((outputs,), np.float32)}
        return weights


class _ObservedGraph(StepGraph):
    """A step that also returns what goes into each linear layer."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__(config)
        self.observed: dict[str, str] = {}

    def linear(self, rows: str, *names: str, scale: float = 1.0) -> str:
        self.observed[names[0]] = f"observed_{len(self.observed)}"
        self.output(self.observed[names[0]], rows, "num_frames", "width")
        return super().linear(rows, *names, scale=scale)


def activation_ranges(
    encoder: OnnxEncoder, config: StreamingConfig, audio: Sequence[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """Returns between which values nearly all inputs of each linear layer lie, zero included."""
    graph = _ObservedGraph(config)
    session = open_session(step_graph(graph), encoder.weights, num_threads=1)
    values: dict[str, list[np.ndarray]] = {name: [] for name in graph.observed}
    fresh = dict(zip(encoder.cache_names, encoder.initial_cache()))
    for waveform in audio:
        whole = encoder.geometry.num_samples(encoder.geometry.num_frames(len(waveform)))
        outputs = session.run(list(graph.observed.values()), fresh | {"samples": waveform[:whole]})
        for name, rows in zip(values, outputs):
            values[name].append(rows.ravel())
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    beyond = (100 - COVERED) / 2
    return {
        name: (min(0.0, float(np.percentile(all_, beyond))), max(1e-6, float(np.percentile(all_, 100 - beyond))))
        for name, all_ in joined.items()
    }


def relative_error(exact: RuntimeEncoder, rounded: RuntimeEncoder, audio: Sequence[np.ndarray]) -> float:
    """Returns the root mean square difference of the frames of two encoders, relative to the first's."""
    squares, total = 0.0, 0.0
    for waveform in audio:
        expected, frames = (
            np.concatenate([stream.feed(waveform), stream.flush()]) for stream in (exact.stream(), rounded.stream())
        )
        squares += float(np.square(frames - expected).sum())
        total += float(np.square(expected).sum())
    return float(np.sqrt(squares / total))


def calibration_audio(rng: np.random.Generator) -> list[np.ndarray]:
    """Returns sentences of many voices at levels and in noise as microphones have them.

    Raises:
        SynthesisError: no synthesiser.
    """
    audio = []
    for _ in range(NUM_SENTENCES):
        speech = speak(random_sentence(rng, 3, 10), draw_voice(rng, "train")).waveform
        noise = coloured_noise(len(speech), rng.uniform(0, 2), rng)
        mixed = mix_at_snr(speech, noise, rng.uniform(0, 40)).waveform
        level = 10 ** (rng.uniform(-45, -12) / 20)
        scaled = mixed * (level / np.sqrt(np.mean(mixed**2)))
        pause = coloured_noise(SAMPLE_RATE // 2, 1.0, rng) * np.float32(10 ** (rng.uniform(-70, -40) / 20))
        audio.append(np.clip(np.concatenate([scaled, pause]), -1, 1).astype(np.float32))
    return audio
