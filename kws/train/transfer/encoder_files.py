"""A trained encoder as a folder that `load_encoder` reads: weights in half precision, config, output layer."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from kws.errors import ConfigError, EncoderError
from kws.model.encoder import Encoder, OutputLayer
from kws.model.encoder_folder import (
    CONFIG_FILE,
    OUTPUT_LAYER_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    WEIGHTS_PREFIX,
    find_encoder_folder,
    read_json,
)
from kws.model.files import write_atomically
from kws.model.settings import EncoderConfig
from kws.model.small import SmallEncoder, small_config_json
from kws.model.streaming import StreamingEncoder
from kws.model.windowed import WindowedEncoder
from kws.train.phone_model import save_half

PREPROCESSOR_FILE = "preprocessor_config.json"


def save_encoder(encoder: Encoder, folder: Path, output_layer: OutputLayer | None = None) -> EncoderConfig:
    """Writes `encoder` into `folder` and returns the settings that load it from there, frozen.

    Args:
        encoder: with as many layers as it was cut to.
        folder: made if missing.
        output_layer: that fits the trained frames; without one none is kept, since the old one fits them no more.

    Raises:
        ConfigError: an encoder of another kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(encoder, StreamingEncoder):
        config = _base_config(encoder) | {"num_hidden_layers": len(encoder.transformer_layers)}
        write_atomically(folder / CONFIG_FILE, json.dumps(config, indent=1).encode())
        save_half(encoder, WEIGHTS_PREFIX, folder / WEIGHTS_FILE)
    elif isinstance(encoder, SmallEncoder):
        write_atomically(folder / CONFIG_FILE, small_config_json(encoder.config).encode())
        save_half(encoder, WEIGHTS_PREFIX, folder / WEIGHTS_FILE)
    elif isinstance(encoder, WindowedEncoder):
        _save_windowed(encoder, folder)
    else:
        raise ConfigError(f"an encoder like {type(encoder).__name__} can't be kept; use transfer.mode = 'frozen'")
    if output_layer is not None and isinstance(encoder, StreamingEncoder):
        _save_output_layer(output_layer, folder)
    kept = encoder.settings
    return EncoderConfig(name=str(folder), layer=kept.layer, window_s=kept.window_s, hop_s=kept.hop_s)


def _base_config(encoder: Encoder) -> dict[str, Any]:
    base = find_encoder_folder(encoder.settings.name)
    if base is None:
        raise EncoderError(f"{encoder.settings.name} is no folder any more, so its {CONFIG_FILE} can't be copied")
    return read_json(base / CONFIG_FILE)


def _save_windowed(encoder: WindowedEncoder, folder: Path) -> None:
    copy.deepcopy(encoder.network).half().save_pretrained(folder)
    values = {"do_normalize": encoder.is_normalized, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    write_atomically(folder / PREPROCESSOR_FILE, json.dumps(values).encode())


def _save_output_layer(layer: OutputLayer, folder: Path) -> None:
    state = {"lm_head.weight": layer.weight, "lm_head.bias": layer.bias}
    half = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    save_file(half, folder / OUTPUT_LAYER_FILE, metadata={"format": "pt"})
    (folder / OUTPUT_LAYER_FILE).chmod(0o644)
    vocabulary = {label: index for index, label in enumerate(layer.labels)}
    write_atomically(folder / VOCABULARY_FILE, json.dumps(vocabulary, indent=1).encode())
