"""Any wav2vec2, HuBERT or WavLM checkpoint, streamed by re-encoding a fixed window: samples ─▶ windows ─▶ frames.

Such an encoder attends both ways and may normalise over time, so its frames depend on the window's length and on
padding. The window is therefore the same in training and live; `window_stream.py` has the stream.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.errors import EncoderError, require
from kws.frames import FrameGeometry
from kws.model.encoder import Encoder, OutputLayer
from kws.model.files import sha256_of
from kws.model.settings import DEFAULT_ENCODER, EncoderConfig
from kws.model.window_stream import WindowedStream

MODEL_TYPES = ("wav2vec2", "hubert", "wavlm")
"""Architectures of `transformers` that turn 16 kHz samples into 20 ms frames through wav2vec2's convolutions."""

UNUSED_WEIGHTS = ("masked_spec_embed",)
"""Weights that only masked pretraining reads; published checkpoints often lack them."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class WindowedEncoder(Encoder):
    """A network of `transformers`, run on windows of `window_s` seconds every `hop_s` seconds."""

    def __init__(self, network: Any, is_normalized: bool, settings: EncoderConfig) -> None:
        config = network.config
        super().__init__(FrameGeometry(tuple(config.conv_kernel), tuple(config.conv_stride)), config.hidden_size)
        self.network = network
        self.is_normalized = is_normalized
        self.window_frames = self.geometry.frames_in(settings.window_s)
        self.hop_frames = max(1, self.geometry.frames_in(settings.hop_s))

    @property
    def transformer_layers(self) -> nn.ModuleList:
        return self.network.encoder.layers

    def forward(self, waveform: Tensor) -> Tensor:
        num_frames = self.geometry.num_frames(waveform.shape[1])
        starts = self.window_starts(num_frames)
        length = self.geometry.num_samples(self.window_frames)
        whole = waveform[:, : self.geometry.num_samples(num_frames)]
        padded = F.pad(whole, (0, max(0, length - whole.shape[1])))
        hop = self.geometry.hop
        encoded = [self.encode(padded[:, start * hop : start * hop + length]) for start in starts]
        frames, done = [], 0
        for start, window in zip(starts, encoded):
            end = min(start + self.window_frames, num_frames)
            frames.append(window[:, done - start : end - start])
            done = end
        return torch.cat(frames, dim=1) if frames else waveform.new_zeros(waveform.shape[0], 0, self.dim)

    def reinitialise(self) -> None:
        network = type(self.network)(self.network.config).to(next(self.network.parameters()))
        self.network = network.train(self.network.training)

    def window_starts(self, num_frames: int) -> list[int]:
        """Returns the first frame of each window that a stream of `num_frames` frames encodes."""
        if num_frames == 0:
            return []
        last = max(0, num_frames - self.window_frames)
        starts = list(range(0, last + 1, self.hop_frames))
        return starts if starts[-1] == last else [*starts, last]

    def encode(self, windows: Tensor) -> Tensor:
        """Returns (batch, window_frames, dim) of `windows` (batch, num_samples), each exactly one window long."""
        if self.is_normalized:
            mean, variance = windows.mean(1, keepdim=True), windows.var(1, keepdim=True, unbiased=False)
            windows = (windows - mean) / torch.sqrt(variance + 1e-7)  # as Wav2Vec2FeatureExtractor does
        if self.settings.layer == "last":
            return self.network(windows).last_hidden_state
        states = self.network(windows, output_hidden_states=True).hidden_states
        return self.select(states, nn.Identity())

    @torch.inference_mode()
    def run(self, windows: np.ndarray) -> np.ndarray:
        """Returns (batch, window_frames, dim) float32 of `windows` (batch, num_samples), as `encode`."""
        return self.encode(torch.from_numpy(np.ascontiguousarray(windows))).numpy()

    def stream(self) -> WindowedStream:
        """Returns a fresh stream; the encoder itself keeps no state."""
        return WindowedStream(self)


def load_transformers_encoder(settings: EncoderConfig, folder: Path | None) -> WindowedEncoder:
    """Returns the encoder of a CTC (or bare) checkpoint that `transformers` reads, from `folder` or from the hub.

    Raises:
        EncoderError: not to be had, not such an encoder, or an encoder weight is missing.
        DependencyError: `transformers` is missing or broken.
    """
    transformers = require("transformers", extra="train")
    source = str(folder or settings.name)
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        if config.model_type not in MODEL_TYPES:
            raise EncoderError(f"{source} is a '{config.model_type}'; encoders here are: {', '.join(MODEL_TYPES)}")
        config.apply_spec_augment, config.layerdrop = False, 0.0
        model, loading = transformers.AutoModelForCTC.from_pretrained(source, config=config, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise EncoderError(_unreachable(source, folder, error)) from error
    head = "lm_head."
    missing = [key for key in loading["missing_keys"] if not key.startswith(head) and not key.endswith(UNUSED_WEIGHTS)]
    missing += [str(key) for key in loading.get("mismatched_keys", ())]
    if missing:
        raise EncoderError(
            f"{source} leaves {len(missing)} encoder weights uninitialised, first {missing[0]}: it is damaged or not "
            "the architecture its config.json says"
        )
    encoder = WindowedEncoder(model.base_model, _is_normalized(source, folder), settings)
    encoder.sha256 = _weights_sha256(source, folder)
    if not any(key.startswith(head) for key in loading["missing_keys"]):
        encoder.output_layer = _output_layer(model, _labels(source, folder, model.lm_head.out_features))
    return encoder.float()


def _output_layer(model: Any, labels: tuple[str, ...]) -> OutputLayer:
    return OutputLayer(model.lm_head.weight.detach().float(), model.lm_head.bias.detach().float(), labels)


def _unreachable(source: str, folder: Path | None, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if folder is not None:
        return f"the encoder in {source} can't be read ({first_line}); fetch it again"
    return (
        f"the encoder '{source}' is not on this disk and can't be fetched ({first_line}). With a network, fetch it "
        f"once with: hf download {source}   Without one, use what comes with kws: encoder.name={DEFAULT_ENCODER}"
    )


def _companion(source: str, folder: Path | None, name: str) -> Path | None:
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    hub = require("huggingface_hub", extra="train")
    cached = hub.try_to_load_from_cache(source, name)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hub.hf_hub_download(source, name))
    except (OSError, ValueError):
        return None


def _is_normalized(source: str, folder: Path | None) -> bool:
    path = _companion(source, folder, "preprocessor_config.json")
    return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True)) if path else True


def _labels(source: str, folder: Path | None, num_labels: int) -> tuple[str, ...]:
    path = _companion(source, folder, "vocab.json")
    vocabulary = json.loads(path.read_text(encoding="utf-8")) if path else {}
    by_index = {index: label for label, index in vocabulary.items() if isinstance(index, int)}
    return tuple(by_index.get(index, str(index)) for index in range(num_labels))


def _weights_sha256(source: str, folder: Path | None) -> str:
    for name in WEIGHT_FILES:
        path = _companion(source, folder, name)
        if path is not None:
            return sha256_of(path)
    return ""
