"""A streaming encoder that runs on ONNX Runtime and NumPy alone: config.json + step.onnx + model.safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from kws.errors import EncoderError
from kws.model.encoder_folder import (
    WEIGHTS_FILE,
    WEIGHTS_PREFIX,
    StreamingConfig,
    read_streaming_config,
)
from kws.model.incremental import EncoderStream, IncrementalStream
from kws.model.onnx_session import PRECISION_SUFFIX, Precision, metadata_of, open_encoder_graph
from kws.model.settings import EncoderConfig

CONFIG_KEY = "kws_config"
"""Key in the graph's metadata of the config that it was exported from."""

WEIGHTS_KEY = "kws_weights_sha256"
"""Key of the hash of the weights that an int8 graph was measured with."""

INT8_LIMIT = 63
"""Largest rounded weight. With seven bits, processors without VNNI can't overflow their 16-bit sums of two products."""


class OnnxEncoder:
    """A streaming encoder, the frames of the last layer that it keeps, without torch.

    It holds weights only, so that threads and any number of streams can share it.

    Attributes:
        geometry: how samples map to frames.
        dim: width of a frame.
        num_states: layers in a frame, always 1.
        block_frames: frames that are encoded together.
        sha256: hash of the weight file, which an artefact pins.
        settings: what it was loaded with.
        weights: the graph's initialisers by name.
        cache_names: the graph's inputs that `step` hands on.
        precision: of the linear layers.

    Args:
        folder: holds `config.json`, the graph and `model.safetensors`.
        settings: what it was asked for with, how many layers too; by default all.
        num_threads: threads that share one step; a step of 160 ms is too short for a second one to help.
        precision: of the linear layers.
        graph: a model to run instead of the one in `folder`.

    Raises:
        EncoderError: a file is missing, damaged, or from another encoder.
    """

    num_states = 1

    def __init__(
        self,
        folder: Path,
        settings: EncoderConfig | None = None,
        num_threads: int = 1,
        precision: Precision = "float32",
        graph: bytes | None = None,
    ) -> None:
        config = read_streaming_config(folder)
        if config is None:
            raise EncoderError(f"the encoder in {folder} was not trained to stream, so its windows are run")
        self.settings = settings or EncoderConfig(name=str(folder))
        path = folder / step_file(config, self.settings.layers, precision)
        config = cut(config, self.settings.layers)
        weights, self.sha256 = _read_weights(folder / WEIGHTS_FILE, config)
        metadata = {CONFIG_KEY: json.dumps(asdict(config))}
        if precision == "int8":
            weights, metadata[WEIGHTS_KEY] = with_int8(weights, config), self.sha256
        self.precision = precision
        self.geometry = config.geometry
        self.dim = config.hidden_size
        self.block_frames = config.block_frames
        self.weights = weights  # the session reads some of them where they lie
        self._session = open_encoder_graph(path, graph, weights, num_threads)
        recorded = metadata_of(self._session)
        if any(recorded.get(key) != value for key, value in metadata.items()):
            raise EncoderError(f"{path} was exported from another encoder; export it again: kws export {folder}")
        pasts = [f"past_{index}" for index in range(config.num_hidden_layers)]
        self.cache_names = ["position", *pasts]
        self._outputs = ["frames", *(f"next_{name}" for name in self.cache_names)]
        no_past = np.zeros((0, 2 * self.dim), np.float32)
        position = np.zeros((config.num_conv_pos_embeddings - 1, self.dim), np.float32)
        self._fresh = [position, *(no_past for _ in pasts)]

    def initial_cache(self) -> list[np.ndarray]:
        """Returns the cache of a stream that has heard nothing: one array for each cache input of the graph."""
        return self._fresh

    def step(self, samples: np.ndarray, cache: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns (1, num_frames, dim) float32 frames of `samples`, and the next cache; `cache` is left as it was.

        Args:
            samples: (1, hop * num_frames + overlap) float32, beginning with the overlap of the step before.
            cache: from `initial_cache` or the step before.
        """
        frames, *cache = self._session.run(self._outputs, dict(zip(self.cache_names, cache)) | {"samples": samples[0]})
        return frames[None], cache

    def stream(self) -> EncoderStream:
        """Returns a fresh stream, block by block; the encoder itself keeps no state."""
        return IncrementalStream(self, self.block_frames)


def step_file(config: StreamingConfig, layers: int = 0, precision: Precision = "float32") -> str:
    """Returns the name of the graph of the first `layers` layers (0: all) of the encoder of `config`."""
    stem = "step" if layers in (0, config.num_hidden_layers) else f"step-{layers}"
    return stem + PRECISION_SUFFIX[precision]


def cut(config: StreamingConfig, layers: int) -> StreamingConfig:
    """Returns `config` with the first `layers` layers alone (0: all)."""
    return replace(config, num_hidden_layers=layers) if layers else config


def with_int8(weights: dict[str, np.ndarray], config: StreamingConfig) -> dict[str, np.ndarray]:
    """Returns `weights` with those of the linear layers as (in, out) int8 and (out,) float32 scales."""
    rounded = dict(weights)
    for name in config.linear_names():
        weight = rounded.pop(f"{name}.weight")
        scale = np.maximum(np.abs(weight).max(axis=1), np.float32(1e-12)) / INT8_LIMIT
        rounded[f"{name}.int8"] = np.ascontiguousarray(np.round(weight / scale[:, None]).astype(np.int8).T)
        rounded[f"{name}.scale"] = scale
    return rounded


def _read_weights(path: Path, config: StreamingConfig) -> tuple[dict[str, np.ndarray], str]:
    try:
        content = path.read_bytes()
        arrays = load_safetensors(content)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{path} can't be read ({error}); fetch the encoder again") from error
    shapes = config.weight_shapes()
    found = {name: arrays.get(WEIGHTS_PREFIX + name) for name in shapes}
    weights = {name: array.astype(np.float32) for name, array in found.items() if array is not None}
    wrong = [name for name, shape in shapes.items() if name not in weights or weights[name].shape != shape]
    if wrong:
        raise EncoderError(f"{path} lacks, or has in another shape, {len(wrong)} weights, first {wrong[0]}")
    return weights, hashlib.sha256(content).hexdigest()
