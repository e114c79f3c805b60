"""A streaming encoder that runs on ONNX Runtime and NumPy alone: config.json + step.onnx + model.safetensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from kws.errors import EncoderError
from kws.model.encoder_folder import (
    GRAPH_FILE,
    INT8_GRAPH_FILE,
    WEIGHTS_FILE,
    WEIGHTS_PREFIX,
    StreamingConfig,
    find_encoder_folder,
    read_streaming_config,
)
from kws.model.incremental import EncoderStream, IncrementalStream
from kws.model.settings import EncoderConfig

CONFIG_KEY = "kws_config"
"""Key in the graph's metadata of the config that it was exported from."""

WEIGHTS_KEY = "kws_weights_sha256"
"""Key of the hash of the weights that an int8 graph was measured with."""

Precision = Literal["float32", "int8"]
GRAPH_FILES: dict[Precision, str] = {"float32": GRAPH_FILE, "int8": INT8_GRAPH_FILE}

INT8_LIMIT = 63
"""Largest rounded weight. With seven bits, processors without VNNI can't overflow their 16-bit sums of two products."""

_ERRORS_ONLY = 3


class OnnxEncoder:
    """The whole depth of a streaming encoder, last layer's frames, without torch.

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

    Args:
        folder: holds `config.json`, `step.onnx` and `model.safetensors`.
        settings: what it was asked for with, which `graph_problem` accepts.
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
            raise EncoderError(f"the encoder in {folder} was not trained to stream, so no graph of it can be run")
        weights, self.sha256 = _read_weights(folder / WEIGHTS_FILE, config)
        metadata = {CONFIG_KEY: json.dumps(asdict(config))}
        if precision == "int8":
            weights, metadata[WEIGHTS_KEY] = with_int8(weights, config), self.sha256
        path = folder / GRAPH_FILES[precision]
        self.settings = settings or EncoderConfig(name=str(folder))
        self.geometry = config.geometry
        self.dim = config.hidden_size
        self.block_frames = config.block_frames
        self.weights = weights  # the session reads some of them where they lie
        self._session = _open_graph(path, graph, weights, num_threads)
        _check_metadata(self._session, path, metadata)
        pasts = [f"past_{index}" for index in range(config.num_hidden_layers)]
        self.cache_names = ["position", *pasts]
        self._outputs = ["frames", *(f"next_{name}" for name in self.cache_names)]
        no_past = np.zeros((0, 2 * self.dim), np.float32)
        position = np.zeros((config.num_conv_pos_embeddings - 1, self.dim), np.float32)
        self._fresh = [_ort_value(position), *(_ort_value(no_past) for _ in pasts)]

    def initial_cache(self) -> list[Any]:
        """Returns the cache of a stream that has heard nothing: one `OrtValue` for each cache input of the graph."""
        return self._fresh

    def step(self, samples: np.ndarray, cache: list[Any]) -> tuple[np.ndarray, list[Any]]:
        """Returns (1, num_frames, dim) float32 frames of `samples`, and the next cache; `cache` is left as it was.

        Args:
            samples: (1, hop * num_frames + overlap) float32, beginning with the overlap of the step before.
            cache: from `initial_cache` or the step before.
        """
        inputs = dict(zip(self.cache_names, cache)) | {"samples": _ort_value(samples[0])}
        frames, *cache = self._session.run_with_ort_values(self._outputs, inputs)
        return frames.numpy()[None], cache

    def stream(self) -> EncoderStream:
        """Returns a fresh stream; the encoder itself keeps no state."""
        return IncrementalStream(self)


def load_onnx_encoder(settings: EncoderConfig, precision: Precision = "float32") -> OnnxEncoder:
    """Returns the encoder of `settings`, as a graph.

    Raises:
        EncoderError: it can't run as a graph, or a file is missing or damaged.
    """
    problem, folder = graph_problem(settings, precision), find_encoder_folder(settings.name)
    if problem or folder is None:
        raise EncoderError(f"the encoder '{settings.name}' can't run on ONNX Runtime: {problem}; use backend='torch'")
    return OnnxEncoder(folder, settings, precision=precision)


def graph_problem(settings: EncoderConfig, precision: Precision = "float32") -> str:
    """Returns why the encoder of `settings` can't run as a graph, or an empty string if it can."""
    folder = find_encoder_folder(settings.name)
    config = read_streaming_config(folder) if folder else None
    if folder is None or config is None:
        return f"'{settings.name}' is not an encoder trained to stream"
    if not (folder / GRAPH_FILES[precision]).is_file():
        return f"{folder} holds no {GRAPH_FILES[precision]} (kws export {folder})"
    if settings.layer != "last" or settings.layers not in (0, config.num_hidden_layers):
        return f"its graph has all {config.num_hidden_layers} layers and gives the last one's frames"
    return "its weights are random" if settings.is_random else ""


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


def _open_graph(
    path: Path, graph: bytes | None, weights: dict[str, np.ndarray], num_threads: int
) -> onnxruntime.InferenceSession:
    try:
        return open_session(graph or path.read_bytes(), weights, num_threads)
    except OSError as error:
        raise EncoderError(f"{path} can't be read ({error.strerror}); fetch the encoder again") from error
    except Exception as error:  # onnxruntime's own exceptions have no public base class
        raise EncoderError(f"{path} can't be run ({error}); export it again: kws export {path.parent}") from error


def open_session(graph: bytes, weights: dict[str, np.ndarray], num_threads: int) -> onnxruntime.InferenceSession:
    """Returns a session of `graph` with `weights` as its initialisers."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_external_initializers(list(weights), [_ort_value(array) for array in weights.values()])
    return onnxruntime.InferenceSession(graph, sess_options=options, providers=["CPUExecutionProvider"])


def _check_metadata(session: onnxruntime.InferenceSession, path: Path, expected: dict[str, str]) -> None:
    recorded = session.get_modelmeta().custom_metadata_map
    if any(recorded.get(key) != value for key, value in expected.items()):
        raise EncoderError(f"{path} was exported from another encoder; export it again: kws export {path.parent}")


def _ort_value(array: np.ndarray) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
