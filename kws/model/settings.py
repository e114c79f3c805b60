"""The settings that an artefact records: which encoder, which head, which trigger; no torch needed to read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kws.config import check

DEFAULT_ENCODER = "streaming-small"
"""The encoder of this package, used where none is named."""

ALL_LAYERS = -1
"""Value of `trainable_layers` that trains the whole encoder, its convolutions too."""


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, how much of it, and what of it is trained.

    Attributes:
        name: a folder of `pretrained/`, a local folder in Hugging Face format, or a hub id.
        layers: keep the first N transformer layers (0: all); lower ones carry phones and cost less.
        layer: "last" gives the last kept layer's frames, "mix" all of them, for the head to weigh.
        trainable_layers: 0 frozen, N the last N layers, -1 everything.
        is_random: start from random weights of the same shape (for the transfer study).
        window_s: length of the window that an encoder not trained to stream is run on, in seconds.
        hop_s: how often that window is encoded again, in seconds.
    """

    name: str = DEFAULT_ENCODER
    layers: int = 0
    layer: Literal["last", "mix"] = "last"
    trainable_layers: int = 0
    is_random: bool = False
    window_s: float = 2.0
    hop_s: float = 0.16

    def __post_init__(self) -> None:
        check(self.layers >= 0, "encoder.layers", self.layers, "0 (all) or a number of layers")
        check(self.layer in ("last", "mix"), "encoder.layer", self.layer, "'last', 'mix'")
        check(self.trainable_layers >= ALL_LAYERS, "encoder.trainable_layers", self.trainable_layers, "-1, 0, 1, …")
        check(0.1 <= self.window_s <= 30, "encoder.window_s", self.window_s, "0.1 to 30 seconds")
        check(0.02 <= self.hop_s <= self.window_s, "encoder.hop_s", self.hop_s, "0.02 seconds to window_s")


@dataclass(frozen=True)
class HeadConfig:
    """Size and kind of the head.

    Attributes:
        kind: the middle layer: a causal convolution, or a GRU.
        hidden: width of the first two layers.
        members: networks of that width, trained side by side from other beginnings, whose logits are averaged; a GRU
            has one.
        kernel: taps of the convolution.
        dilation: frames between two taps; (kernel − 1) · dilation + 1 frames are seen, 1.02 s as it comes.
    """

    kind: Literal["conv", "gru"] = "conv"
    hidden: int = 32
    members: int = 4
    kernel: int = 11
    dilation: int = 5

    def __post_init__(self) -> None:
        check(self.kind in ("conv", "gru"), "head.kind", self.kind, "'conv', 'gru'")
        for name in ("hidden", "kernel", "dilation"):
            check(1 <= getattr(self, name) <= 1024, f"head.{name}", getattr(self, name), "1 to 1024")
        check(1 <= self.members <= 64, "head.members", self.members, "1 to 64")

    @property
    def num_members(self) -> int:
        """Members that the kind has."""
        return self.members if self.kind == "conv" else 1

    @property
    def width(self) -> int:
        """Units in a layer, of all members together."""
        return self.num_members * self.hidden


@dataclass(frozen=True)
class TriggerConfig:
    """How the scores of one keyword become detections.

    Attributes:
        threshold: smoothed score that fires, 0 to 1.
        smoothing_frames: length of the moving average over the scores' logits.
        consecutive_frames: frames in a row that must reach the threshold.
        refractory_s: seconds after a detection in which the keyword can't fire again.
    """

    threshold: float = 0.5
    smoothing_frames: int = 12
    consecutive_frames: int = 1
    refractory_s: float = 1.0

    def __post_init__(self) -> None:
        check(0 <= self.threshold <= 1, "trigger.threshold", self.threshold, "0 to 1")
        check(1 <= self.smoothing_frames <= 500, "trigger.smoothing_frames", self.smoothing_frames, "1 to 500")
        check(1 <= self.consecutive_frames <= 500, "trigger.consecutive_frames", self.consecutive_frames, "1 to 500")
        check(0 <= self.refractory_s <= 60, "trigger.refractory_s", self.refractory_s, "0 to 60 seconds")
