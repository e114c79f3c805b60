"""What the detector in the browser runs on: an encoder's step with its weights inside, heads and triggers as JSON."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

import numpy as np

from kws.detect.runtime import check_fits
from kws.errors import EncoderError, require
from kws.model.artefact import WakeWord
from kws.model.encoder_folder import find_encoder_folder, read_streaming_config
from kws.model.graphs import load_onnx_encoder
from kws.model.onnx_encoder import OnnxEncoder, step_file
from kws.model.settings import EncoderConfig


def describe_browser_model(wakeword: WakeWord) -> dict[str, Any]:
    """Returns all that the page needs beside the graph: geometry, cache shapes, head weights, triggers.

    Raises:
        EncoderError: the encoder has no graph of its steps.
        ArtefactError: the encoder here is another one than it was trained on.
    """
    encoder = _step_encoder(wakeword.encoder)
    check_fits(wakeword, encoder)
    geometry = encoder.geometry
    return {
        "encoder": {
            "hop": geometry.hop,
            "overlap": geometry.overlap,
            "receptive_field": geometry.receptive_field,
            "block_frames": encoder.block_frames,
            "dim": encoder.dim,
            "caches": {name: list(value.shape) for name, value in zip(encoder.cache_names, encoder.initial_cache())},
        },
        "head": asdict(wakeword.head),
        "weights": {name: _encoded(array) for name, array in wakeword.weights.items()},
        "keywords": [asdict(keyword) for keyword in wakeword.keywords],
    }


def browser_graph(settings: EncoderConfig) -> bytes:
    """Returns the encoder's step as one ONNX model, its weights inside as float32.

    Raises:
        EncoderError: the encoder has no graph of its steps.
        DependencyError: `onnx` is missing.
    """
    onnx = require("onnx", "train")
    encoder, folder = _step_encoder(settings), find_encoder_folder(settings.name)
    config = read_streaming_config(folder) if folder is not None else None
    assert folder is not None and config is not None  # else there were no encoder
    model = onnx.load_model_from_string((folder / step_file(config, settings.layers)).read_bytes())
    for tensor in model.graph.initializer:
        if tensor.name in encoder.weights:
            weight = np.ascontiguousarray(encoder.weights[tensor.name])
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    return model.SerializeToString()


def _step_encoder(settings: EncoderConfig) -> OnnxEncoder:
    encoder = load_onnx_encoder(settings)
    if not isinstance(encoder, OnnxEncoder):
        raise EncoderError(
            f"the encoder '{settings.name}' was not trained to stream, and the browser runs streaming ones only; "
            "use the other page, or the encoder that comes with kws"
        )
    return encoder


def _encoded(array: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": list(array.shape), "data": base64.b64encode(data).decode()}
