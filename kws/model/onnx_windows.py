"""Any wav2vec2 by window on ONNX Runtime alone: config.json + the graph of one window, with its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kws.errors import EncoderError
from kws.frames import WAV2VEC2_GEOMETRY, FrameGeometry
from kws.model.encoder_folder import CONFIG_FILE, read_json
from kws.model.onnx_session import PRECISION_SUFFIX, Precision, metadata_of, open_encoder_graph
from kws.model.settings import EncoderConfig
from kws.model.window_stream import WindowedStream

WINDOW_KEY = "kws_window"
"""Key in the graph's metadata of its `WindowGraph`."""
DEFAULT_LAYERS = 12
"""What `transformers` leaves out of a config.json where it is so."""


@dataclass(frozen=True)
class WindowGraph:
    """What a graph of windows says of itself.

    Attributes:
        weights_sha256: hash of the weight file that it was exported from, which an artefact pins.
        layers: transformer layers that it has.
        layer: whose frames it gives, as in `EncoderConfig`.
        window_frames: frames in a window.
        kernels: of the convolutions.
        strides: of the convolutions.
        dim: width of a frame.
        num_states: layers in a frame.
    """

    weights_sha256: str
    layers: int
    layer: str
    window_frames: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    dim: int
    num_states: int

    def to_json(self) -> str:
        """Returns it as text for the graph's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WindowGraph:
        """Returns what `to_json` wrote; raises ValueError, KeyError or TypeError on anything else."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values | {name: tuple(values[name]) for name in ("kernels", "strides")})


class OnnxWindows:
    """An encoder by window, without torch; it holds weights only, so that threads and any number of streams can share.

    Attributes:
        geometry: how samples map to frames.
        window_frames: frames in a window.
        hop_frames: frames from one window to the next.
        dim: width of a frame.
        num_states: layers in a frame.
        sha256: hash of the weight file that the graph was exported from.
        settings: what it was loaded with.
        precision: of the linear layers.

    Args:
        folder: holds `config.json` and the graph of these settings.
        settings: which layers, how long a window, how often.
        precision: of the linear layers.
        path: the graph's, instead of the one in `folder`.

    Raises:
        EncoderError: the graph is missing, damaged, or of other settings.
    """

    def __init__(
        self, folder: Path, settings: EncoderConfig, precision: Precision = "float32", path: Path | None = None
    ) -> None:
        path = path or folder / window_file(folder, settings, precision)
        self._session = open_encoder_graph(path, None, {})
        try:
            graph = WindowGraph.from_json(metadata_of(self._session)[WINDOW_KEY])
        except (ValueError, KeyError, TypeError) as error:
            raise EncoderError(f"{path} was not exported by kws; export it: kws export {folder}") from error
        self.geometry = FrameGeometry(graph.kernels, graph.strides)
        self.window_frames, self.hop_frames = frames_of(self.geometry, settings)
        self.dim, self.num_states, self.sha256 = graph.dim, graph.num_states, graph.weights_sha256
        self.settings, self.precision = settings, precision
        if (graph.window_frames, graph.layer) != (self.window_frames, settings.layer):
            raise EncoderError(f"{path} was exported for other settings; export it again: kws export {folder}")

    def run(self, windows: np.ndarray) -> np.ndarray:
        """Returns (batch, window_frames, dim) float32 of `windows` (batch, num_samples), each one window long."""
        return np.concatenate([self._session.run(None, {"samples": window[None]})[0] for window in windows])

    def stream(self) -> WindowedStream:
        """Returns a fresh stream; the encoder itself keeps no state."""
        return WindowedStream(self)


def frames_of(geometry: FrameGeometry, settings: EncoderConfig) -> tuple[int, int]:
    """Returns the frames in a window, and from one window to the next."""
    return geometry.frames_in(settings.window_s), max(1, geometry.frames_in(settings.hop_s))


def window_file(folder: Path, settings: EncoderConfig, precision: Precision = "float32") -> str:
    """Returns the name of the graph of windows of the encoder in `folder` with these settings."""
    config = read_json(folder / CONFIG_FILE)
    layers = settings.layers or config.get("num_hidden_layers", DEFAULT_LAYERS)
    window_frames, _ = frames_of(WAV2VEC2_GEOMETRY, settings)
    return f"windows-{layers}-{settings.layer}-{window_frames}{PRECISION_SUFFIX[precision]}"
