"""The transfer modes: which network a head is trained on, which of its parameters learn, how fast, and from when on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from kws.config import check
from kws.model.encoder import Encoder
from kws.model.head import Head
from kws.model.pretrained import build_encoder
from kws.model.settings import ALL_LAYERS, EncoderConfig
from kws.model.small import new_small_encoder

Mode = Literal["frozen", "last", "full", "random", "small"]
MODES: tuple[Mode, ...] = get_args(Mode)
PRETRAINED_MODES: tuple[Mode, ...] = ("frozen", "last", "full")
"""Those that begin with what the encoder knows."""
FROM_NOTHING: tuple[Mode, ...] = ("random", "small")


@dataclass(frozen=True)
class TransferConfig:
    """What is carried over from the encoder, and what of it is trained.

    Attributes:
        mode: "frozen" trains the head alone on the encoder as it is; "last" also the last `last_layers` transformer
            layers; "full" everything, from the top down; "random" the same network from random weights; "small" a
            small conventional network from nothing.
        last_layers: how many transformer layers "last" trains.
        steps: batches that train encoder and head together.
        batch_size: windows a batch, half of them with the phrase.
        head_learning_rate: peak rate of the head.
        encoder_learning_rate: peak rate of the topmost layer of a pretrained encoder.
        layer_decay: each layer below learns at this share of the rate of the layer above it.
        unfreeze_share: share of the run after which "full" trains all layers; the head begins alone.
        random_learning_rate: peak rate of the encoder that begins with random weights; at ten times it, it stays at
            chance.
        scratch_learning_rate: peak rate of the small network.
        frame_dropout: share of the frames' values that the head doesn't see in training.
        ctc_weight: weight of the CTC loss on `ctc_speech` beside the wake word's, so that the encoder doesn't forget
            what it knew; 0 leaves it out.
        ctc_speech: `.jsonl` manifest of transcribed speech.
        ctc_batch_size: utterances of it a batch.
        bf16: bfloat16 autocast where the processor multiplies it (AMX, AVX-512 BF16), in about half the time; float32
            on others.
    """

    mode: Mode = "frozen"
    last_layers: int = 2
    steps: int = 400
    batch_size: int = 32
    head_learning_rate: float = 2e-3
    encoder_learning_rate: float = 3e-4
    layer_decay: float = 0.75
    unfreeze_share: float = 0.4
    random_learning_rate: float = 1e-4
    scratch_learning_rate: float = 1e-3
    frame_dropout: float = 0.2
    ctc_weight: float = 0.0
    ctc_speech: str = ""
    ctc_batch_size: int = 4
    bf16: bool = False

    def __post_init__(self) -> None:
        check(self.mode in MODES, "transfer.mode", self.mode, ", ".join(map(repr, MODES)))
        for name in ("last_layers", "steps", "batch_size", "ctc_batch_size"):
            check(1 <= getattr(self, name) <= 10_000_000, f"transfer.{name}", getattr(self, name), "1 or more")
        for kind in ("head", "encoder", "random", "scratch"):
            rate = getattr(self, f"{kind}_learning_rate")
            check(0 < rate <= 1, f"transfer.{kind}_learning_rate", rate, "above 0, up to 1")
        check(0 < self.layer_decay <= 1, "transfer.layer_decay", self.layer_decay, "above 0, up to 1")
        check(0 <= self.unfreeze_share <= 1, "transfer.unfreeze_share", self.unfreeze_share, "0 to 1")
        check(0 <= self.frame_dropout < 1, "transfer.frame_dropout", self.frame_dropout, "0 to below 1")
        check(0 <= self.ctc_weight <= 100, "transfer.ctc_weight", self.ctc_weight, "0 to 100")
        if self.ctc_weight:
            allowed = "0 with this mode: only 'last', 'full' and 'random' train an encoder that has an output layer"
            check(self.mode in ("last", "full", "random"), "transfer.ctc_weight", self.ctc_weight, allowed)
            allowed = "a .jsonl manifest of transcribed speech, since transfer.ctc_weight is above 0"
            check(bool(self.ctc_speech), "transfer.ctc_speech", self.ctc_speech, allowed)


def open_encoder(settings: EncoderConfig, transfer: TransferConfig, seed: int) -> Encoder:
    """Returns the encoder that `transfer` begins with, frozen and unfrozen as it says ("full": all unfrozen).

    Args:
        settings: which encoder; its own `trainable_layers` and `is_random` must be left alone.
        transfer: the mode.
        seed: of random weights.

    Raises:
        ConfigError: `settings` and `transfer` contradict each other.
        EncoderError: the encoder can't be found, or has fewer than `last_layers` layers.
    """
    check_untouched(settings)
    with seeded(seed):
        if transfer.mode == "small":
            return new_small_encoder()
        return build_encoder(
            replace(settings, trainable_layers=_trainable_layers(transfer), is_random=transfer.mode == "random")
        )


def check_untouched(settings: EncoderConfig) -> None:
    """Raises a `ConfigError` if `settings` say themselves what `transfer.mode` says."""
    allowed = "0; what is trained of the encoder is chosen by transfer.mode ('last', 'full', 'random')"
    check(settings.trainable_layers == 0, "encoder.trainable_layers", settings.trainable_layers, allowed)
    check(not settings.is_random, "encoder.is_random", settings.is_random, "false; use transfer.mode=random")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws torch's random numbers from `seed` inside, and leaves its generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def parameter_groups(encoder: Encoder, head: Head, transfer: TransferConfig) -> list[dict[str, Any]]:
    """Returns what an optimiser trains: the head, then the encoder from the top down, each with its peak rate as `lr`.

    Source: rates that fall with depth, Howard & Ruder 2018, arXiv:1801.06146, §3.2 (there by 2.6 a layer).
    """
    groups = [{"params": list(head.parameters()), "lr": transfer.head_learning_rate}]
    for depth, parameters in enumerate(encoder_groups(encoder)):
        from_nothing = {"random": transfer.random_learning_rate, "small": transfer.scratch_learning_rate}
        rate = from_nothing.get(transfer.mode, transfer.encoder_learning_rate * transfer.layer_decay**depth)
        if any(parameter.requires_grad for parameter in parameters):
            groups.append({"params": parameters, "lr": rate})
    return groups


def encoder_groups(encoder: Encoder) -> list[list[nn.Parameter]]:
    """Returns the parameters of each transformer layer, the topmost first, and last all that belongs to none."""
    layers = [list(layer.parameters()) for layer in reversed(list(encoder.transformer_layers))]
    inner = {id(parameter) for layer in layers for parameter in layer}
    return [*layers, [parameter for parameter in encoder.parameters() if id(parameter) not in inner]]


def trained_at(transfer: TransferConfig, progress: float, num_layers: int) -> int:
    """Returns how many layers are trained when `progress` of the run (0 to 1) is done, as `trainable_layers`.

    Only "full" changes: the head begins alone, then a layer more at even steps, the topmost first, at last everything.

    Source: gradual unfreezing, Howard & Ruder 2018, arXiv:1801.06146, §3.3.
    """
    if transfer.mode != "full":
        return _trainable_layers(transfer)
    num_groups = num_layers + 1
    share = 1.0 if transfer.unfreeze_share == 0 else min(1.0, progress / transfer.unfreeze_share)
    unfrozen = int(share * num_groups + 1e-9)
    return ALL_LAYERS if unfrozen >= num_groups else unfrozen


def count_parameters(*modules: nn.Module, trained_only: bool = False) -> int:
    """Returns how many numbers the parameters of `modules` hold, or of those that are trained."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad or not trained_only)


def _trainable_layers(transfer: TransferConfig) -> int:
    if transfer.mode == "frozen":
        return 0
    return transfer.last_layers if transfer.mode == "last" else ALL_LAYERS
