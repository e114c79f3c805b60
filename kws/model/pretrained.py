"""Finding and loading pretrained encoders: name, folder or hub id ─▶ checked weights ─▶ `Encoder`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kws.errors import EncoderError
from kws.model.encoder import Encoder, OutputLayer
from kws.model.files import pretrained_folder, sha256_of
from kws.model.settings import EncoderConfig
from kws.model.streaming import StreamingConfig, StreamingEncoder

DEFAULT_ENCODER = "prototype"
"""The encoder of this package, used where none is named."""


def list_encoders() -> list[str]:
    """Returns the names of the encoders that come with the package."""
    return sorted(path.parent.name for path in pretrained_folder().glob("*/config.json"))


def load_encoder(name: str | Path = DEFAULT_ENCODER, **options: Any) -> Encoder:
    """Returns the encoder `name`, its output layer removed from the network and kept apart.

    Args:
        name: an encoder of this package, a local folder (of this project, or in Hugging Face format), or a hub id such
            as "facebook/wav2vec2-base-960h".
        options: the other fields of `EncoderConfig`: `layers`, `layer`, `trainable_layers`, `is_random`, `window_s`,
            `hop_s`.

    Raises:
        EncoderError: it can't be found or read, or leaves an encoder weight uninitialised.
        ConfigError: an impossible option.
        DependencyError: `transformers` is needed and missing or broken.
    """
    return build_encoder(EncoderConfig(name=str(name), **options))


def build_encoder(settings: EncoderConfig) -> Encoder:
    """Returns the encoder that `settings` describe; raises as `load_encoder`."""
    folder = _find_folder(settings.name)
    if folder is not None and "streaming" in (values := _read_json(folder / "config.json")):
        encoder: Encoder = _load_streaming(folder, values)
    else:
        from kws.model.windowed import load_transformers_encoder

        encoder = load_transformers_encoder(settings, folder)
    encoder.configure(settings)
    if settings.is_random:
        encoder.sha256 = ""
    return encoder.eval()


def _find_folder(name: str) -> Path | None:
    for folder in (pretrained_folder() / name, Path(name).expanduser()):
        if (folder / "config.json").is_file():
            return folder
    if Path(name).is_dir():
        raise EncoderError(f"the folder {name} holds no config.json, so it is no encoder; the shipped default is "
                           f"'{DEFAULT_ENCODER}'")
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} can't be read as JSON ({error}); fetch the encoder again") from error


def _load_streaming(folder: Path, values: dict[str, Any]) -> StreamingEncoder:
    weights = folder / "model.safetensors"
    try:
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        encoder = StreamingEncoder(StreamingConfig.from_json(values))
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise EncoderError(f"{folder} is not a whole streaming encoder ({error!r}); fetch it again") from error
    prefix = "wav2vec2."
    network = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    expected = encoder.state_dict()
    wrong = [name for name in expected if name not in network or network[name].shape != expected[name].shape]
    if wrong:
        raise EncoderError(f"{weights} lacks, or has in another shape, {len(wrong)} weights, first {wrong[0]}")
    encoder.load_state_dict({name: network[name] for name in expected})
    encoder.sha256 = sha256_of(weights)
    encoder.output_layer = _read_output_layer(folder, state)
    return encoder


def _read_output_layer(folder: Path, state: dict[str, torch.Tensor]) -> OutputLayer | None:
    if "lm_head.weight" not in state and (folder / "output_layer.safetensors").is_file():
        state = {name: tensor.float() for name, tensor in load_file(folder / "output_layer.safetensors").items()}
    if "lm_head.weight" not in state:
        return None
    vocabulary = _read_json(folder / "vocab.json")
    labels = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    return OutputLayer(state["lm_head.weight"], state["lm_head.bias"], labels)

