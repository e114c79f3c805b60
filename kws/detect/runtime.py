"""Back ends of detection: the encoder that a wake word names, on ONNX Runtime or on torch."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from kws.config import check
from kws.errors import ArtefactError, EncoderError
from kws.frames import FrameGeometry
from kws.model.artefact import WakeWord
from kws.model.graphs import cheapest_precision, graph_problem, load_onnx_encoder
from kws.model.incremental import EncoderStream
from kws.model.onnx_session import Precision
from kws.model.settings import EncoderConfig

Backend = Literal["auto", "int8", "onnx", "torch"]
PRECISIONS: dict[Backend, Precision] = {"int8": "int8", "onnx": "float32"}
"""Of the back ends that run graphs."""


class RuntimeEncoder(Protocol):
    """What detection needs of an encoder, whatever runs it; its streams are the only state."""

    geometry: FrameGeometry
    sha256: str
    settings: EncoderConfig

    @property
    def dim(self) -> int:
        """Width of a frame."""

    @property
    def num_states(self) -> int:
        """Layers in a frame."""

    def stream(self) -> EncoderStream:
        """Returns a fresh stream."""


def load_encoder_for(wakeword: WakeWord, backend: Backend = "auto") -> RuntimeEncoder:
    """Returns the encoder that `wakeword` names.

    Args:
        wakeword: says which encoder, how much of it, and the hash of its weights.
        backend: "int8" (ONNX, rounded), "onnx" (float32), "torch", or "auto": the first of these that there is.

    Raises:
        ArtefactError: the encoder of that name has other weights than the wake word was trained on.
        EncoderError: it can't be found, or not be run by this back end.
        ConfigError: there is no such back end.
    """
    check(backend in get_args(Backend), "backend", backend, ", ".join(map(repr, get_args(Backend))))
    settings, problem = wakeword.encoder, ""
    if backend == "auto":
        problem, backend = graph_problem(settings), backend_for(cheapest_precision(settings))
    is_graph = backend in PRECISIONS
    encoder = load_onnx_encoder(settings, PRECISIONS[backend]) if is_graph else _load_torch_encoder(settings, problem)
    check_fits(wakeword, encoder)
    return encoder


def backend_of(encoder: RuntimeEncoder) -> Backend:
    """Returns the back end that runs `encoder`."""
    return backend_for(getattr(encoder, "precision", None))


def backend_for(precision: Precision | None) -> Backend:
    """Returns the back end that runs graphs of `precision`, torch where there is no graph."""
    return next((name for name, known in PRECISIONS.items() if known == precision), "torch")


def check_fits(wakeword: WakeWord, encoder: RuntimeEncoder) -> None:
    """Raises an `ArtefactError` unless `wakeword` was trained on exactly this `encoder`."""
    name = wakeword.keywords[0].name
    if encoder.sha256 != wakeword.encoder_sha256:
        raise ArtefactError(
            f"'{name}' was trained on another version of the encoder '{wakeword.encoder.name}' "
            f"(SHA-256 {wakeword.encoder_sha256[:12]}…, here {encoder.sha256[:12]}…); train it again"
        )
    if (encoder.dim, encoder.num_states) != (wakeword.dim, wakeword.num_states):
        raise ArtefactError(
            f"'{name}' takes frames of {wakeword.dim} numbers ({wakeword.num_states} layers), its encoder gives "
            f"{encoder.dim} ({encoder.num_states} layers): the artefact is damaged; train it again"
        )


def _load_torch_encoder(settings: EncoderConfig, problem: str) -> RuntimeEncoder:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        reason = f" ({problem})" if problem else ""
        raise EncoderError(
            f"the encoder '{settings.name}' as asked for needs torch{reason}; run: pip install 'kws[train]'"
        ) from error
    from kws.model.pretrained import build_encoder

    return build_encoder(settings)
