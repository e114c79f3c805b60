"""The settings of a pretraining run; `recipes/pretrain/config.toml` shows them all."""

from __future__ import annotations

from dataclasses import dataclass, field

from kws.config import check
from kws.train.phone_model import MaskingConfig
from kws.train.speech_batches import BatchConfig
from kws.train.spoil import SpoilConfig


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run.

    Attributes:
        initial: encoder folder whose shape, phones and (unless `random_initial`) weights the run starts from.
        random_initial: start from random weights.
        cache: folder that `recipes/pretrain/prepare.py` wrote.
        speech: prepared corpora in it to train on.
        shares: share of the crops taken from each, in any unit.
        measure: prepared held-out corpora.
        measure_minutes: how much of each to measure; None for all.
        measure_block_frames: attention block in measuring.
        measure_left_context_frames: left context in measuring.
        noise: manifest of noise clips; "" makes all noise.
        noise_folds: folds of it that may be heard.
        rooms: manifest of impulse responses; "" makes rooms only.
        spoiled: whether training audio is augmented.
        frozen_convolutions: leave the convolutions and their projection as they are; the bank of real speech, made of
            what they give, then fits the new weights as well.
        device: "cpu" or "cuda".
        bf16: bfloat16 autocast where the device multiplies it; float32 on others.
        compiled: compile the convolutions and feed-forward layers; a third faster after a minute.
        workers: processes that prepare batches; 0 prepares them in this one.
        max_steps: length of the run in steps; None goes by `minutes`.
        minutes: length of the run in minutes of training.
        optimiser: "adamw", or "muon" for the transformer layers' matrices.
        learning_rate: at its highest; it falls linearly to zero at the end of the run.
        warmup_steps: steps in which it rises.
        weight_decay: of matrices.
        gradient_norm: largest norm of a gradient.
        dropout: share of what each attention and feed-forward layer adds that is set to zero.
        label_smoothing: probability spread over the other classes.
        average_decay: how slowly the averaged weights follow.
        ctc_weight: weight of the CTC loss beside the frame-wise one.
        ctc_from: share of the run after which it counts.
        show_every: steps between two progress lines.
        save_every_minutes: between two checkpoints.
        measure_every_minutes: between two measurements.
    """

    initial: str
    cache: str
    speech: tuple[str, ...]
    shares: tuple[float, ...]
    measure: tuple[str, ...] = ()
    measure_minutes: float | None = 10.0
    measure_block_frames: int = 8
    measure_left_context_frames: int = 64
    random_initial: bool = False
    noise: str = ""
    noise_folds: tuple[int, ...] = (0, 1, 2, 3)
    rooms: str = ""
    spoiled: bool = True
    frozen_convolutions: bool = False
    device: str = "cpu"
    bf16: bool = True
    compiled: bool = False
    workers: int = 0
    max_steps: int | None = None
    minutes: float = 100.0
    optimiser: str = "adamw"
    learning_rate: float = 8e-4
    warmup_steps: int = 150
    weight_decay: float = 0.02
    gradient_norm: float = 1.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    average_decay: float = 0.998
    ctc_weight: float = 0.0
    ctc_from: float = 0.8
    show_every: int = 20
    save_every_minutes: float = 5.0
    measure_every_minutes: float = 15.0
    batches: BatchConfig = field(default_factory=BatchConfig)
    spoil: SpoilConfig = field(default_factory=SpoilConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)

    def __post_init__(self) -> None:
        self.check_speech()
        check(len(self.shares) == len(self.speech), "shares", self.shares, "one number for each of `speech`")
        check(all(share > 0 for share in self.shares), "shares", self.shares, "above 0")
        check(self.optimiser in ("adamw", "muon"), "optimiser", self.optimiser, "adamw or muon")
        check(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        check(self.minutes > 0, "minutes", self.minutes, "above 0")
        check(self.max_steps is None or self.max_steps > 0, "max_steps", self.max_steps, "at least 1")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")
        check(0 <= self.average_decay < 1, "average_decay", self.average_decay, "0 to below 1")
        check(0 <= self.ctc_from <= 1, "ctc_from", self.ctc_from, "0 to 1")

    def check_speech(self) -> None:
        """Raises a `ConfigError` unless there is speech to train on."""
        check(len(self.speech) > 0, "speech", self.speech, "at least one prepared corpus")

    @property
    def has_idle_layer(self) -> bool:
        """Whether an output layer may be without a loss in some step."""
        return self.ctc_weight == 0 or self.ctc_from > 0
