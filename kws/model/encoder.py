"""Encoders: a pretrained wav2vec2 without its output layer, loaded by name or path, frozen or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kws.errors import EncoderError
from kws.frames import FrameGeometry
from kws.model.incremental import EncoderStream
from kws.model.settings import ALL_LAYERS, EncoderConfig


@dataclass(frozen=True)
class OutputLayer:
    """The removed CTC output layer, off the detection path.

    Attributes:
        weight: (num_labels, dim) float32.
        bias: (num_labels,) float32.
        labels: the symbol of each output, blank included.
    """

    weight: Tensor
    bias: Tensor
    labels: tuple[str, ...]

    def __call__(self, frames: Tensor) -> Tensor:
        """Returns (…, num_labels) logits of (…, dim) last-layer frames of the whole encoder."""
        return F.linear(frames, self.weight, self.bias)


class Encoder(nn.Module, ABC):
    """Samples → frames; see `load_encoder`.

    Attributes:
        geometry: how samples map to frames.
        hidden_dim: width of one layer's frames.
        sha256: hash of the weight file, which an artefact pins ("" for random weights).
        settings: what it was loaded with.
        output_layer: the removed CTC output layer, None if the checkpoint had none.
    """

    def __init__(self, geometry: FrameGeometry, hidden_dim: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.hidden_dim = hidden_dim
        self.sha256 = ""
        self.settings = EncoderConfig()
        self.output_layer: OutputLayer | None = None

    @property
    def num_states(self) -> int:
        """Layers in one frame: 1, or with `layer="mix"` the kept layers and their input."""
        return len(self.transformer_layers) + 1 if self.settings.layer == "mix" else 1

    @property
    def dim(self) -> int:
        """Width of a frame as `forward` returns it."""
        return self.hidden_dim * self.num_states

    @property
    @abstractmethod
    def transformer_layers(self) -> nn.ModuleList:
        """The transformer layers, lowest first."""

    @abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Returns (batch, num_frames, dim) frames of `waveform` (batch, num_samples) float32 in −1..1, 16 kHz."""

    @abstractmethod
    def stream(self) -> EncoderStream:
        """Returns a fresh stream; the encoder itself keeps no state."""

    def select(self, states: Sequence[Tensor], final_norm: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the frames that `settings.layer` asks for, of the layers' outputs `states`, lowest first."""
        if self.settings.layer == "last":
            return final_norm(states[-1])
        return torch.cat([F.layer_norm(state, state.shape[-1:]) for state in states], dim=-1)

    def configure(self, settings: EncoderConfig) -> None:
        """Cuts, re-initialises and freezes the encoder in place as `settings` say.

        Raises:
            EncoderError: `settings` ask for more layers than there are.
        """
        num_layers = len(self.transformer_layers)
        for key, asked in (("layers", settings.layers), ("trainable_layers", settings.trainable_layers)):
            if asked > num_layers:
                raise EncoderError(
                    f"{settings.name} has {num_layers} transformer layers; encoder.{key} = {asked} is too many"
                )
        if settings.is_random:
            self.reinitialise()
        if settings.layers:
            del self.transformer_layers[settings.layers :]
        self.settings = settings
        self._freeze()

    def train_layers(self, trainable_layers: int) -> None:
        """Freezes and unfreezes in place, as `EncoderConfig.trainable_layers` says; weights stay as they are."""
        self.settings = replace(self.settings, trainable_layers=trainable_layers)
        self._freeze()

    def reinitialise(self) -> None:
        """Draws all weights afresh, in place, with torch's generator."""
        self.apply(_reinitialise)

    def _freeze(self) -> None:
        num_trainable = self.settings.trainable_layers
        self.requires_grad_(num_trainable == ALL_LAYERS)
        for layer in self._trained_layers():
            layer.requires_grad_(True)
        self.train(self.training)

    def _trained_layers(self) -> list[nn.Module]:
        num_trainable = self.settings.trainable_layers
        return list(self.transformer_layers)[-num_trainable:] if num_trainable > 0 else []

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of the encoder is trained, so that its frames can be cached."""
        return self.settings.trainable_layers == 0

    def train(self, mode: bool = True) -> Encoder:
        """Sets training mode on the trained layers alone: a frozen layer stays in `eval()` whatever is asked."""
        super().train(mode and self.settings.trainable_layers == ALL_LAYERS)
        for layer in self._trained_layers():
            layer.train(mode)
        return self


def _reinitialise(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
    if isinstance(module, nn.Conv1d) and parametrize.is_parametrized(module, "weight"):
        module.weight = nn.init.kaiming_uniform_(torch.empty_like(module.weight), a=5**0.5)  # reset() missed it
