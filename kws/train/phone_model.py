"""A streaming encoder with its output layer, as pretraining sees it; loading, masking and export."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from kws.config import check
from kws.errors import ConfigError
from kws.frames import FrameGeometry
from kws.model.encoder import ALL_LAYERS
from kws.model.pretrained import load_encoder
from kws.model.streaming import StreamingEncoder

CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocab.json", "model.safetensors"
OUTPUT_LAYER, FRAME_LAYER = "output_layer.safetensors", "frame_layer.safetensors"


class PhoneLogits(NamedTuple):
    """What the two output layers say, each (batch, num_frames, num_classes).

    Attributes:
        frame: the class of each frame; class 0 is silence.
        ctc: CTC's labels; class 0 is its blank.
    """

    frame: Tensor
    ctc: Tensor


class PhoneModel(nn.Module):
    """Waveforms → logits of the phones, a frame at a time.

    Frame-wise and CTC training have an output layer each: CTC wants blanks where a phone lasts, and on one layer the
    two undo each other (measured: eight points of frame accuracy in eighty steps).

    Args:
        encoder: a `StreamingEncoder`, all of it trained.
        frame_output: Linear(dim → classes) for frame-wise training.
        ctc_output: the same for CTC.
        folder: where it was loaded from; its config and vocabulary go with every export.
    """

    def __init__(self, encoder: StreamingEncoder, frame_output: nn.Linear, ctc_output: nn.Linear, folder: Path) -> None:
        super().__init__()
        self.encoder = encoder
        self.frame_output = frame_output
        self.ctc_output = ctc_output
        self.folder = folder

    @classmethod
    def from_folder(cls, folder: Path | str, is_random: bool = False) -> PhoneModel:
        """Returns the model in `folder`, with its weights or, when `is_random`, with fresh ones.

        Raises:
            EncoderError: the folder holds no whole encoder.
            ConfigError: the encoder has no output layer.
        """
        encoder = load_encoder(str(folder), trainable_layers=ALL_LAYERS, is_random=is_random)
        if not isinstance(encoder, StreamingEncoder) or encoder.output_layer is None:
            raise ConfigError(f"{folder} holds no streaming encoder with its output layer; pretraining starts from one")
        layer = encoder.output_layer
        frame_output, ctc_output = (nn.Linear(encoder.dim, len(layer.labels)) for _ in range(2))
        if not is_random:
            weights = {"weight": layer.weight, "bias": layer.bias}
            ctc_output.load_state_dict(weights)
            if (Path(folder) / FRAME_LAYER).is_file():
                stored = load_file(Path(folder) / FRAME_LAYER)
                weights = {name.removeprefix("lm_head."): value for name, value in stored.items()}
            frame_output.load_state_dict(weights)
        return cls(encoder, frame_output, ctc_output, Path(folder))

    @property
    def geometry(self) -> FrameGeometry:
        """How samples map to frames."""
        return self.encoder.geometry

    def forward(self, waveforms: Tensor, block_frames: int, left_context_frames: int) -> PhoneLogits:
        """Returns the logits of `waveforms` (batch, num_samples) float32."""
        frames = self.encoder(waveforms, block_frames, left_context_frames)
        return PhoneLogits(self.frame_output(frames), self.ctc_output(frames))

    def compile_parts(self) -> None:
        """Compiles the convolutions, the position and each transformer layer, in place."""
        self.encoder.feature_extractor.compile()
        self.encoder.encoder.pos_conv_embed.compile()
        for layer in self.encoder.transformer_layers:
            layer.compile()

    def save(self, folder: Path, has_ctc: bool) -> None:
        """Writes the encoder in half precision, its output layers as files of their own, config and vocabulary.

        Args:
            folder: to write; made if missing.
            has_ctc: whether CTC's output layer was trained; else the frame-wise one is the output layer.
        """
        folder.mkdir(parents=True, exist_ok=True)
        output = self.ctc_output if has_ctc else self.frame_output
        save_half(self.encoder, "wav2vec2.", folder / WEIGHTS)
        save_half(output, "lm_head.", folder / OUTPUT_LAYER)
        save_half(self.frame_output, "lm_head.", folder / FRAME_LAYER)
        config = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        shutil.copyfile(self.folder / VOCABULARY, folder / VOCABULARY)


@dataclass(frozen=True)
class MaskingConfig:
    """How much of the projected features is hidden in training.

    Attributes:
        from_progress: share of the run after which masking begins; 1 never masks.
        spans: spans of frames hidden in a crop.
        span_frames: longest span.
        channels: spans of feature channels hidden.
        span_channels: most channels in a span.
    """

    from_progress: float = 1.0
    spans: int = 2
    span_frames: int = 8
    channels: int = 1
    span_channels: int = 32

    def __post_init__(self) -> None:
        check(0 <= self.from_progress <= 1, "masking.from_progress", self.from_progress, "0 to 1")


class Masking:
    """Hides spans of the projected features in training, so that the context has to fill them in.

    Source: Park et al. 2019, SpecAugment, on wav2vec2's features instead of a spectrogram.
    """

    def __init__(self, config: MaskingConfig) -> None:
        self._generator = torch.Generator()
        self._config = config
        self._is_on = False

    def attach(self, model: PhoneModel) -> None:
        """Puts the masking behind the feature projection of `model`."""
        model.encoder.feature_projection.register_forward_hook(self._hide)

    def begin_step(self, progress: float, seed: int) -> None:
        """Turns masking on where the run is far enough; `seed` decides the step's draws."""
        self._generator.manual_seed(seed)
        self._is_on = progress >= self._config.from_progress and self._config.from_progress < 1

    def _hide(self, module: nn.Module, inputs: object, features: Tensor) -> Tensor:
        if not self._is_on or not module.training:
            return features
        config, (batch, num_frames, dim) = self._config, features.shape
        hidden = self._spans(batch, config.spans, config.span_frames, num_frames)[:, :, None]
        hidden = hidden | self._spans(batch, config.channels, config.span_channels, dim)[:, None, :]
        return features.masked_fill(hidden.to(features.device), 0.0)

    def _spans(self, batch: int, count: int, longest: int, size: int) -> Tensor:
        starts = torch.randint(0, size, (batch, count, 1), generator=self._generator)
        lengths = torch.randint(0, longest + 1, (batch, count, 1), generator=self._generator)
        positions = torch.arange(size)
        return ((positions >= starts) & (positions < starts + lengths)).any(dim=1)


def add_dropout(encoder: StreamingEncoder, share: float) -> None:
    """Makes training set a `share` of what each attention and feed-forward layer adds to zero, in place."""

    def drop(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return functional.dropout(output, share, module.training)

    for name, module in encoder.encoder.layers.named_modules():
        if name.endswith((".out_proj", ".feed_forward")):
            module.register_forward_hook(drop)


def save_half(module: nn.Module, prefix: str, path: Path) -> None:
    """Writes the weights of `module` in half precision to `path`, their names after `prefix`."""
    values = {prefix + name: value.detach() for name, value in module.state_dict().items()}
    half = {name: value.to("cpu", torch.float16).contiguous() for name, value in values.items()}
    save_file(half, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors writes files that only their owner reads
