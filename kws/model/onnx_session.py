"""Sessions of ONNX Runtime, as every graph of this package is run: one thread, errors only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

from kws.errors import EncoderError

Precision = Literal["float32", "int8"]
CHEAPEST_FIRST: tuple[Precision, ...] = ("int8", "float32")
"""By what listening costs."""
PRECISION_SUFFIX: dict[Precision, str] = {"float32": ".onnx", "int8": ".int8.onnx"}
"""How the files of graphs end."""

_ERRORS_ONLY = 3


def open_session(
    graph: bytes | Path, weights: Mapping[str, np.ndarray], num_threads: int = 1
) -> onnxruntime.InferenceSession:
    """Returns a session of `graph` (its content, or a file) with `weights` as its initialisers.

    The session reads some of `weights` where they lie: keep them as long as it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    if weights:
        arrays = map(np.ascontiguousarray, weights.values())
        options.add_external_initializers(list(weights), list(map(onnxruntime.OrtValue.ortvalue_from_numpy, arrays)))
    model = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])


def open_encoder_graph(
    path: Path, graph: bytes | None, weights: Mapping[str, np.ndarray], num_threads: int = 1
) -> onnxruntime.InferenceSession:
    """Returns a session of the encoder's graph at `path`, or of `graph` in its place.

    Raises:
        EncoderError: it can't be read or run.
    """
    try:
        path.stat() if graph is None else None
        return open_session(graph or path, weights, num_threads)
    except OSError as error:
        raise EncoderError(f"{path} can't be read ({error.strerror}); fetch the encoder again") from error
    except Exception as error:  # onnxruntime's own exceptions have no public base class
        raise EncoderError(f"{path} can't be run ({error}); export it again: kws export {path.parent}") from error


def metadata_of(session: onnxruntime.InferenceSession) -> dict[str, str]:
    """Returns what the exporter wrote into the graph."""
    return dict(session.get_modelmeta().custom_metadata_map)
