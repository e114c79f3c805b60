"""Which encoders run as graphs, and loading them: by steps if trained to stream, else by windows; no torch."""

from __future__ import annotations

from kws.errors import EncoderError
from kws.model.encoder_folder import find_encoder_folder, read_streaming_config
from kws.model.onnx_encoder import OnnxEncoder, step_file
from kws.model.onnx_session import CHEAPEST_FIRST, Precision
from kws.model.onnx_windows import OnnxWindows, window_file
from kws.model.settings import EncoderConfig


def load_onnx_encoder(settings: EncoderConfig, precision: Precision = "float32") -> OnnxEncoder | OnnxWindows:
    """Returns the encoder of `settings`, as a graph.

    Raises:
        EncoderError: it can't run as a graph, or a file is missing or damaged.
    """
    problem, folder = graph_problem(settings, precision), find_encoder_folder(settings.name)
    if problem or folder is None:
        raise EncoderError(f"the encoder '{settings.name}' can't run on ONNX Runtime: {problem}; use backend='torch'")
    if read_streaming_config(folder) is None:
        return OnnxWindows(folder, settings, precision)
    return OnnxEncoder(folder, settings, precision=precision)


def cheapest_precision(settings: EncoderConfig) -> Precision | None:
    """Returns the precision of the graph of `settings` that costs least, as detection runs it; None without a graph."""
    return next((precision for precision in CHEAPEST_FIRST if not graph_problem(settings, precision)), None)


def graph_problem(settings: EncoderConfig, precision: Precision = "float32") -> str:
    """Returns why the encoder of `settings` can't run as a graph, or an empty string if it can."""
    folder = find_encoder_folder(settings.name)
    if folder is None:
        return f"'{settings.name}' is not on this disk as a folder"
    if settings.is_random:
        return "its weights are random"
    config = read_streaming_config(folder)
    if config is not None and settings.layer != "last":
        return "a graph of its steps gives the last layer's frames"
    file = window_file(folder, settings, precision) if config is None else step_file(config, settings.layers, precision)
    return "" if (folder / file).is_file() else f"{folder} holds no {file} ({export_command(settings)})"


def export_command(settings: EncoderConfig) -> str:
    """Returns the command that writes the graphs of the encoder of `settings`."""
    layers = f" --layers {settings.layers}" if settings.layers else ""
    layer = " --mix" if settings.layer == "mix" else ""
    window = "" if settings.window_s == EncoderConfig().window_s else f" --window {settings.window_s:g}"
    return f"kws export {settings.name}{layers}{layer}{window}"
