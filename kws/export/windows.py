"""Any wav2vec2 by window as ONNX: checkpoint ─▶ the graph of one window with its weights ─▶ compared with torch.

The graph lies beside the checkpoint's `config.json` and needs nothing else of it: copy the two to a machine without
torch.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import EncoderError, require
from kws.export.int8 import MAX_RELATIVE_ERROR, calibration_audio, relative_error
from kws.export.onnx import MAX_ERROR, check_layers
from kws.model.encoder_folder import find_encoder_folder
from kws.model.onnx_windows import WINDOW_KEY, OnnxWindows, WindowGraph, window_file
from kws.model.settings import EncoderConfig

OPSET = 17
"""First one with LayerNormalization."""
MAX_GRAPH_BYTES = (2 << 30) - 1
"""What one ONNX file can hold."""
NUM_CHECKED = 2
"""Windows of noise that torch and the graph both encode."""


def export_windows(settings: EncoderConfig) -> tuple[Path, float]:
    """Writes the graph of the windows of `settings` into the encoder's folder.

    Args:
        settings: a local folder in Hugging Face format, how many layers, which of their frames, how long a window.

    Returns:
        The file, and the largest difference of its frames from torch's.

    Raises:
        EncoderError: no such encoder, too large, or the graph's frames differ from torch's; nothing was written.
        DependencyError: `onnx`, `torch` or `transformers` is missing.
    """
    require("torch", extra="train")
    from kws.model.pretrained import build_encoder

    folder = find_encoder_folder(settings.name)
    if folder is None:
        raise EncoderError(
            f"'{settings.name}' is not a folder on this disk; fetch it: hf download {settings.name} --local-dir FOLDER"
        )
    encoder: Any = build_encoder(settings)
    network = encoder.network
    check_layers(settings.name, settings.layers, network.config.num_hidden_layers)
    path = folder / window_file(folder, settings)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        written = Path(temporary) / path.name
        written.write_bytes(_trace(encoder))
        error = _parity_error(encoder, OnnxWindows(folder, settings, path=written))
        if not error <= MAX_ERROR:
            raise EncoderError(f"the graph of {folder} differs from torch by {error:.1e}, allowed {MAX_ERROR:.0e}")
        written.replace(path)
    return path, error


def export_windows_int8(settings: EncoderConfig, audio: Sequence[np.ndarray] = ()) -> tuple[Path, float]:
    """Writes the int8 graph of windows beside the float32 one: weights rounded by column, activations as they come.

    Args:
        settings: with which `export_windows` was called.
        audio: speech as (num_samples,) float32, 16 kHz, to compare on; without any, synthetic speech in noise.

    Returns:
        The file, and the relative root mean square error of its frames.

    Raises:
        EncoderError: there is no float32 graph, or int8 changes its frames too much; nothing was written.
        DependencyError: `onnx` is missing.
    """
    require("onnx", extra="train")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = find_encoder_folder(settings.name)
    if folder is None:
        raise EncoderError(f"'{settings.name}' is not a folder on this disk")
    exact, path = OnnxWindows(folder, settings), folder / window_file(folder, settings, "int8")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as temporary:
        written = Path(temporary) / path.name
        quantize_dynamic(
            folder / window_file(folder, settings), written, op_types_to_quantize=["MatMul"], per_channel=True,
            reduce_range=True, weight_type=QuantType.QInt8,
        )  # fmt: skip
        rounded = OnnxWindows(folder, settings, "int8", path=written)
        audio = list(audio) or calibration_audio(np.random.default_rng(0))
        error = relative_error(exact, rounded, audio)
        if not error <= MAX_RELATIVE_ERROR:
            raise EncoderError(f"int8 changes the frames of {folder} by {error:.1%}, allowed {MAX_RELATIVE_ERROR:.0%}")
        written.replace(path)
    return path, error


def _trace(encoder: Any) -> bytes:
    """Returns the ONNX model of `encoder.encode` for one window, with what it is of in its metadata."""
    torch, onnx = require("torch", extra="train"), require("onnx", extra="train")

    class Window(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, samples: Any) -> Any:
            return self.encoder.encode(samples)

    size = sum(value.numel() * 4 for value in encoder.parameters())
    if size > MAX_GRAPH_BYTES:
        raise EncoderError(f"{encoder.settings.name} has {size >> 20} MB of weights, an ONNX file holds 2048; --layers")
    samples = torch.from_numpy(_noise(encoder, seed=0))
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of tracing: shapes are constant here, on purpose
        path = Path(temporary) / "graph.onnx"
        torch.onnx.export(
            Window().eval(), (samples,), path, input_names=["samples"], output_names=["frames"], opset_version=OPSET,
            dynamo=False,
        )  # fmt: skip
        model = onnx.load(path)
    geometry, settings = encoder.geometry, encoder.settings
    described = WindowGraph(
        encoder.sha256, len(encoder.transformer_layers), settings.layer, encoder.window_frames, geometry.kernels,
        geometry.strides, encoder.dim, encoder.num_states,
    )  # fmt: skip
    onnx.helper.set_model_props(model, {WINDOW_KEY: described.to_json()})
    return model.SerializeToString()


def _parity_error(encoder: Any, graph: OnnxWindows) -> float:
    windows = np.concatenate([_noise(encoder, seed) for seed in range(1, 1 + NUM_CHECKED)])
    return float(np.abs(encoder.run(windows) - graph.run(windows)).max())


def _noise(encoder: Any, seed: int) -> np.ndarray:
    num_samples = encoder.geometry.num_samples(encoder.window_frames)
    return np.random.default_rng(seed).normal(0, 0.1, (1, num_samples)).astype(np.float32)
