"""Back ends of detection: the encoder that a wake word names, on ONNX Runtime or on torch."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from kws.config import check
from kws.errors import ArtefactError, EncoderError
from kws.frames import FrameGeometry
from kws.model.artefact import WakeWord
from kws.model.incremental import EncoderStream
from kws.model.onnx_encoder import Precision, graph_problem, load_onnx_encoder
from kws.model.settings import EncoderConfig

Backend = Literal["auto", "onnx", "int8", "torch"]


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
        backend: "onnx", "int8" (ONNX too, rounded), "torch", or "auto": ONNX where the encoder has a graph, else torch.

    Raises:
        ArtefactError: the encoder of that name has other weights than the wake word was trained on.
        EncoderError: it can't be found, or not be run by this back end.
        ConfigError: there is no such back end.
    """
    check(backend in get_args(Backend), "backend", backend, ", ".join(map(repr, get_args(Backend))))
    settings = wakeword.encoder
    problem = graph_problem(settings) if backend != "torch" else ""
    use_torch = backend == "torch" or (backend == "auto" and bool(problem))
    precision: Precision = "int8" if backend == "int8" else "float32"
    encoder = _load_torch_encoder(settings, problem) if use_torch else load_onnx_encoder(settings, precision)
    check_fits(wakeword, encoder)
    return encoder


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
