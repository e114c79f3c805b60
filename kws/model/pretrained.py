"""Finding and loading pretrained encoders: name, folder or hub id ─▶ checked weights ─▶ `Encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kws.errors import EncoderError
from kws.model.encoder import Encoder, OutputLayer
from kws.model.encoder_folder import (
    OUTPUT_LAYER_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    WEIGHTS_PREFIX,
    StreamingConfig,
    find_encoder_folder,
    list_encoders,
    read_json,
    read_streaming_config,
)
from kws.model.files import sha256_of
from kws.model.settings import DEFAULT_ENCODER, EncoderConfig
from kws.model.small import is_small_folder, load_small_encoder
from kws.model.streaming import StreamingEncoder

__all__ = ["DEFAULT_ENCODER", "build_encoder", "list_encoders", "load_encoder"]


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
    folder = find_encoder_folder(settings.name)
    config = read_streaming_config(folder) if folder is not None else None
    if folder is not None and config is not None:
        encoder: Encoder = _load_streaming(folder, config)
    elif folder is not None and is_small_folder(folder):
        encoder = load_small_encoder(folder)
    else:
        from kws.model.windowed import load_transformers_encoder

        encoder = load_transformers_encoder(settings, folder)
    encoder.configure(settings)
    if settings.is_random:
        encoder.sha256 = ""
    return encoder.eval()


def _load_streaming(folder: Path, config: StreamingConfig) -> StreamingEncoder:
    weights = folder / WEIGHTS_FILE
    try:
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        encoder = StreamingEncoder(config)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{folder} is not a whole streaming encoder ({error!r}); fetch it again") from error
    prefix = WEIGHTS_PREFIX
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
    if "lm_head.weight" not in state and (folder / OUTPUT_LAYER_FILE).is_file():
        state = {name: tensor.float() for name, tensor in load_file(folder / OUTPUT_LAYER_FILE).items()}
    if "lm_head.weight" not in state:
        return None
    vocabulary = read_json(folder / VOCABULARY_FILE)
    labels = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    return OutputLayer(state["lm_head.weight"], state["lm_head.bias"], labels)
