"""A small conventional network that knows nothing yet: samples ─▶ log-mel ─▶ causal temporal convolutions ─▶ frames.

What keyword spotting was made of before pretrained encoders, as an `Encoder`, so that heads, streams and artefacts take
it like any other. It is the traditional model of the transfer study.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kws.config import check, from_dict
from kws.errors import ConfigError, EncoderError, require
from kws.frames import SAMPLE_RATE, FrameGeometry
from kws.model.encoder import Encoder
from kws.model.encoder_folder import CONFIG_FILE, WEIGHTS_FILE, WEIGHTS_PREFIX, read_json
from kws.model.files import sha256_of
from kws.model.incremental import IncrementalStream
from kws.model.settings import ALL_LAYERS, EncoderConfig

MODEL_TYPE = "kws-small"
"""What `config.json` says of such a network."""

MEL_GEOMETRY = FrameGeometry(kernels=(400,), strides=(320,))
"""Windows of 25 ms every 20 ms: the frames of wav2vec2, so that everything after them stays as it is."""

NUM_MELS = 40
FFT_SIZE = 512
LOWEST_HZ = 60.0
FLOOR = 1e-6
MEAN, SPREAD = -6.0, 4.0
"""Of log-mel values of speech at a usual level, roughly: constants, so that silence stays silent."""


@dataclass(frozen=True)
class SmallConfig:
    """Size of the network.

    Attributes:
        channels: width of a frame.
        kernel: taps of each temporal convolution.
        blocks: temporal convolutions; each reaches twice as far apart as the one before.
    """

    channels: int = 64
    kernel: int = 5
    blocks: int = 3

    def __post_init__(self) -> None:
        for name in ("channels", "kernel"):
            check(1 <= getattr(self, name) <= 1024, f"small.{name}", getattr(self, name), "1 to 1024")
        check(1 <= self.blocks <= 8, "small.blocks", self.blocks, "1 to 8")


class _Block(nn.Module):
    """A depthwise convolution over time and a pointwise one, with a shortcut around both."""

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.num_past = (kernel - 1) * dilation
        self.norm = nn.LayerNorm(channels)
        self.depthwise = nn.Conv1d(channels, channels, kernel, dilation=dilation, groups=channels)
        self.pointwise = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        padded = torch.cat([past, self.norm(hidden)], dim=1)  # (batch, num_past + num_frames, channels)
        convolved = self.depthwise(padded.transpose(1, 2)).transpose(1, 2)
        return hidden + self.pointwise(F.relu(convolved)), padded[:, padded.shape[1] - self.num_past :]


class SmallEncoder(Encoder):
    """Log-mel and temporal convolutions, all trained from nothing; `stream()` gives the frames of `forward`.

    Source: Choi et al. 2019, arXiv:1904.03814 (temporal convolution over mel bins as channels) and Zhang et al. 2017,
    arXiv:1711.07128 (depthwise separable), made causal, with norms over channels in place of batch norms.
    """

    def __init__(self, config: SmallConfig = SmallConfig()) -> None:
        super().__init__(MEL_GEOMETRY, config.channels)
        self.config = config
        self.input = nn.Linear(NUM_MELS, config.channels)
        self.blocks = nn.ModuleList(_Block(config.channels, config.kernel, 2**index) for index in range(config.blocks))
        self.final_norm = nn.LayerNorm(config.channels)
        self.filters: Tensor
        self.window: Tensor
        self.register_buffer("filters", _mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(MEL_GEOMETRY.receptive_field), persistent=False)

    @property
    def transformer_layers(self) -> nn.ModuleList:
        return self.blocks

    def forward(self, waveform: Tensor) -> Tensor:
        return self.step(waveform, self.initial_cache(waveform.shape[0]))[0]

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Returns (batch, num_frames, NUM_MELS) log-mel values of `waveform` (batch, num_samples), roughly −1..1."""
        windows = waveform.unfold(1, self.geometry.receptive_field, self.geometry.hop) * self.window
        power = torch.fft.rfft(windows, FFT_SIZE).abs().square()
        return (torch.log(power @ self.filters + FLOOR) - MEAN) / SPREAD

    def initial_cache(self, batch: int = 1) -> list[Tensor]:
        """Returns the cache of a stream that has heard nothing: the past frames of each convolution."""
        weight = self.input.weight
        return [weight.new_zeros(batch, block.num_past, self.hidden_dim) for block in self._blocks()]

    def step(self, waveform: Tensor, cache: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Returns the frames that continue a stream, and the cache for the next step.

        Args:
            waveform: (batch, hop * num_frames + overlap) float32, beginning with the overlap of the step before.
            cache: from `initial_cache` or the step before.
        """
        hidden = self.input(self.log_mel(waveform))
        states, pasts = [hidden], []
        for block, past in zip(self._blocks(), cache):
            hidden, past = block(hidden, past)
            states.append(hidden)
            pasts.append(past)
        return self.select(states, self.final_norm), pasts

    def stream(self) -> IncrementalStream:
        return IncrementalStream(_SmallStep(self))

    def _blocks(self) -> list[_Block]:
        return [block for block in self.blocks if isinstance(block, _Block)]


class _SmallStep:
    """A `SmallEncoder` as `IncrementalStream` calls it: arrays in and out, no gradients."""

    block_frames = 1

    def __init__(self, encoder: SmallEncoder) -> None:
        self.geometry = encoder.geometry
        self._encoder = encoder

    @property
    def dim(self) -> int:
        return self._encoder.dim

    def initial_cache(self) -> list[Tensor]:
        return self._encoder.initial_cache()

    @torch.inference_mode()
    def step(self, samples: np.ndarray, cache: list[Tensor]) -> tuple[np.ndarray, list[Tensor]]:
        frames, cache = self._encoder.step(torch.from_numpy(np.ascontiguousarray(samples)), cache)
        return frames.numpy(), cache


def new_small_encoder(config: SmallConfig = SmallConfig()) -> SmallEncoder:
    """Returns such a network with random weights of torch's generator, all of it to be trained."""
    encoder = SmallEncoder(config)
    encoder.configure(EncoderConfig(name=MODEL_TYPE, trainable_layers=ALL_LAYERS))
    return encoder


def is_small_folder(folder: Path) -> bool:
    """Returns whether `folder` holds such a network."""
    return read_json(folder / CONFIG_FILE).get("model_type") == MODEL_TYPE


def load_small_encoder(folder: Path) -> SmallEncoder:
    """Returns the network in `folder`.

    Raises:
        EncoderError: the folder doesn't hold a whole one.
    """
    values, path = read_json(folder / CONFIG_FILE), folder / WEIGHTS_FILE
    try:
        encoder = SmallEncoder(from_dict(SmallConfig, values["small"], "small."))
        state = {name.removeprefix(WEIGHTS_PREFIX): value.float() for name, value in load_file(path).items()}
        encoder.load_state_dict(state)
    except (OSError, SafetensorError, ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{folder} is not a whole network of log-mel and convolutions ({error!r})") from error
    encoder.sha256 = sha256_of(path)
    return encoder


def small_config_json(config: SmallConfig) -> str:
    """Returns the `config.json` of a network of this size."""
    return json.dumps({"model_type": MODEL_TYPE, "small": asdict(config), "hidden_size": config.channels}, indent=1)


def _mel_filters() -> Tensor:
    mel_filter_bank = require("transformers.audio_utils", "train").mel_filter_bank
    filters = mel_filter_bank(
        num_frequency_bins=FFT_SIZE // 2 + 1,
        num_mel_filters=NUM_MELS,
        min_frequency=LOWEST_HZ,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        mel_scale="htk",
    )
    return torch.from_numpy(filters.astype(np.float32))  # (bins, mels)
