"""Writes an untrained encoder of another shape, for pretraining to start from.

    python recipes/pretrain/shape.py --out runs/pretrain/narrow hidden_size=192 intermediate_size=768
    python -m kws.train.pretrain --config recipes/pretrain/config.toml --out runs/pretrain/run \
        initial=runs/pretrain/narrow frozen_convolutions=false

With `--gabor`, the first convolution starts as Gabor filters, evenly spaced on the mel scale, instead of noise.

Source of the filters: Zeghidour et al. 2021, LEAF, arXiv:2101.08596, section 3.1.1.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from torch import nn

from kws.errors import ConfigError, KwsError
from kws.frames import SAMPLE_RATE
from kws.model.encoder_folder import (
    CONFIG_FILE,
    OUTPUT_LAYER_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    WEIGHTS_PREFIX,
    StreamingConfig,
    find_encoder_folder,
    read_json,
)
from kws.model.settings import DEFAULT_ENCODER
from kws.model.streaming import StreamingEncoder
from kws.train.phone_model import save_half

LOWEST_HZ, HIGHEST_HZ = 60.0, 7800.0
WIDTHS_IN_KERNEL = 4
"""Standard deviations of a Gabor filter's envelope in the convolution's length."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", type=change, help="values of config.json, such as hidden_size=192")
    parser.add_argument("--out", type=Path, required=True, help="encoder folder to write")
    parser.add_argument("--like", default=DEFAULT_ENCODER, help="encoder whose shape and phones it has otherwise")
    parser.add_argument("--gabor", action="store_true", help="start the first convolution as Gabor filters")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        encoder = write_untrained(
            arguments.out, arguments.like, dict(arguments.changes), arguments.gabor, arguments.seed
        )
    except KwsError as error:
        parser.error(str(error))
    print(f"{sum(parameter.numel() for parameter in encoder.parameters()):,} parameters in {arguments.out}")


def change(text: str) -> tuple[str, Any]:
    """Returns the name and the value of "NAME=VALUE"; raises ValueError if that is no JSON."""
    name, _, value = text.partition("=")
    return name, json.loads(value)


def write_untrained(out: Path, like: str, changes: dict[str, Any], is_gabor: bool, seed: int) -> StreamingEncoder:
    """Writes an untrained encoder with its output layer to `out`: that of `like` with `changes` of its config.json.

    Raises:
        EncoderError: `like` is a folder without an encoder.
        ConfigError: `like` is no folder, or a change names nothing that is in its config.json.
    """
    folder = find_encoder_folder(like)
    if folder is None:
        raise ConfigError(f"'{like}' is no encoder on this machine")
    config, num_labels = read_json(folder / CONFIG_FILE), len(read_json(folder / VOCABULARY_FILE))
    if unknown := sorted(set(changes) - set(config)):
        raise ConfigError(f"{folder / CONFIG_FILE} has no {', '.join(unknown)}")
    config |= changes
    torch.manual_seed(seed)
    encoder = StreamingEncoder(StreamingConfig.from_json(config))
    if is_gabor:
        start_as_gabor(encoder.get_parameter("feature_extractor.conv_layers.0.conv.weight"))
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_FILE).write_text(json.dumps(config, indent=1), encoding="utf-8")
    shutil.copyfile(folder / VOCABULARY_FILE, out / VOCABULARY_FILE)
    save_half(encoder, WEIGHTS_PREFIX, out / WEIGHTS_FILE)
    save_half(nn.Linear(encoder.dim, num_labels), "lm_head.", out / OUTPUT_LAYER_FILE)
    return encoder


@torch.no_grad()
def start_as_gabor(weight: torch.Tensor) -> None:
    """Makes `weight` (num_filters, 1, kernel) cosines and sines under a Gaussian, as large as they were, in place."""
    num_filters, _, kernel = weight.shape
    times_s = (np.arange(kernel) - (kernel - 1) / 2) / SAMPLE_RATE
    envelope = np.exp(-0.5 * (times_s * SAMPLE_RATE * WIDTHS_IN_KERNEL / kernel) ** 2)
    centres_hz = librosa.mel_frequencies(num_filters // 2, fmin=LOWEST_HZ, fmax=HIGHEST_HZ)
    phases = 2 * np.pi * centres_hz[:, None] * times_s
    filters = np.concatenate([np.cos(phases), np.sin(phases)]) * envelope
    filters *= float(weight.norm(dim=2).mean()) / np.linalg.norm(filters, axis=1, keepdims=True)
    weight[: len(filters)] = torch.tensor(filters, dtype=weight.dtype)[:, None]


if __name__ == "__main__":
    main()
