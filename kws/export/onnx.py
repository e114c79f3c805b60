"""An encoder as an ONNX graph, compared with torch: of a streaming encoder one step, beside its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kws.errors import EncoderError, require
from kws.export.step_graph import StepGraph, step_graph
from kws.frames import SAMPLE_RATE
from kws.model.encoder_folder import CONFIG_FILE, find_encoder_folder, read_streaming_config
from kws.model.files import write_atomically
from kws.model.onnx_encoder import OnnxEncoder, cut, step_file
from kws.model.settings import EncoderConfig

MAX_ERROR = 1e-4
"""Largest difference allowed between frames of the graph and of torch; about 1e-5 is float32 rounding."""
CHECK_S = 3.0
CHECK_CHUNK = 1111
"""Samples a chunk of the check: no multiple of anything."""


def export_encoder(folder: Path | str, layers: int = 0) -> Path:
    """Writes the graph of a step into the streaming encoder's `folder` (or shipped name), and returns its path.

    Args:
        folder: the encoder's.
        layers: only the first so many (0: all): `step.onnx` is of all, `step-4.onnx` of four.

    Raises:
        EncoderError: no streaming encoder there, or the graph's frames differ from torch's; nothing was written.
        DependencyError: `onnx` or `torch` is missing.
    """
    found = find_encoder_folder(str(folder))
    config = read_streaming_config(found) if found else None
    if found is None or config is None:
        raise EncoderError(f"{folder} holds no streaming encoder ({CONFIG_FILE} with a 'streaming' section)")
    check_layers(str(folder), layers, config.num_hidden_layers)
    graph = step_graph(StepGraph(cut(config, layers)))
    error = parity_error(found, graph, layers)
    if not error <= MAX_ERROR:
        raise EncoderError(f"the exported graph of {found} differs from torch by {error:.1e}, allowed {MAX_ERROR:.0e}")
    path = found / step_file(config, layers)
    write_atomically(path, graph)
    return path


def check_layers(name: str, layers: int, num_layers: int) -> None:
    """Raises an EncoderError if the encoder `name` has fewer than `layers` layers."""
    if not 0 <= layers <= num_layers:
        raise EncoderError(f"{name} has {num_layers} transformer layers; {layers} is none of 1 to {num_layers}")


def parity_error(folder: Path, graph: bytes | None = None, layers: int = 0) -> float:
    """Returns the largest difference between the graph's stream in odd chunks and torch's pass over the whole.

    Args:
        folder: a streaming encoder's.
        graph: the graph to check, instead of the one in `folder`.
        layers: that it has, 0 for all.
    """
    torch = require("torch", extra="train")
    from kws.model.pretrained import load_encoder

    waveform = np.random.default_rng(0).normal(0, 0.1, round(CHECK_S * SAMPLE_RATE)).astype(np.float32)
    stream = OnnxEncoder(folder, EncoderConfig(name=str(folder), layers=layers), graph=graph).stream()
    chunks = [waveform[start : start + CHECK_CHUNK] for start in range(0, len(waveform), CHECK_CHUNK)]
    frames = np.concatenate([*(stream.feed(chunk) for chunk in chunks), stream.flush()])
    with torch.inference_mode():
        expected = load_encoder(folder, layers=layers)(torch.from_numpy(waveform)[None])[0].numpy()
    return float(np.abs(frames - expected).max()) if frames.shape == expected.shape else float("inf")
