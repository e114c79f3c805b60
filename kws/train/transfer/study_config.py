"""The settings of a transfer study: which modes, how many clips, how long."""

from __future__ import annotations

from dataclasses import dataclass, field

from kws.config import check
from kws.model.settings import EncoderConfig, HeadConfig
from kws.train.transfer.modes import MODES, TransferConfig

ALL = 0
"""A size that stands for all clips there are."""


@dataclass(frozen=True)
class StudyConfig:
    """What is compared, and how much of it.

    Attributes:
        modes: transfer modes.
        sizes: clips of each label to learn from (of a word: of the word), 0 for all.
        seeds: runs of each mode and size, with other clips, weights and batches.
        epochs: of each run.
        epoch_windows: windows an epoch, whatever the size, so that all runs are trained equally long.
        variants: windows made of each clip: shifted, softer or louder, in noise.
        window_s: length of a window, in seconds.
        num_negatives: windows without the word to learn from, where a word is studied.
        max_test: most test clips of each label, 0 for all.
        test_snr_db: pink noise over the test, in dB; not given leaves it as it is.
        keywords: of many labels the ones to tell apart; the others become `_unknown_`.
        seed: of the split and of the windows, the same for all runs.
        watts: assumed power of one busy core, in W; it only turns CPU time into an estimate of energy.
        encoder: what is carried over.
        head: on top of it.
        transfer: rates and sizes; its mode is set by the study. `ctc_weight` counts for "last" and "full".
    """

    modes: tuple[str, ...] = MODES
    sizes: tuple[int, ...] = (5, 20, 100, ALL)
    seeds: int = 3
    epochs: int = 16
    epoch_windows: int = 160
    variants: int = 3
    window_s: float = 1.5
    num_negatives: int = 400
    max_test: int = 0
    test_snr_db: float | None = None
    keywords: tuple[str, ...] = ()
    seed: int = 0
    watts: float = 10.0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    transfer: TransferConfig = field(default_factory=lambda: TransferConfig(batch_size=16))

    def __post_init__(self) -> None:
        for mode in self.modes:
            check(mode in MODES, "modes", mode, ", ".join(map(repr, MODES)))
        check(bool(self.modes), "modes", self.modes, f"one or more of {', '.join(MODES)}")
        check(bool(self.sizes) and min(self.sizes) >= 0, "sizes", self.sizes, "numbers of clips, 0 for all")
        for name in ("seeds", "epochs", "epoch_windows", "variants", "num_negatives"):
            check(1 <= getattr(self, name) <= 1_000_000, name, getattr(self, name), "1 to 1000000")
        check(0.3 <= self.window_s <= 30, "window_s", self.window_s, "0.3 to 30 seconds")
        check(0 < self.watts <= 1000, "watts", self.watts, "above 0, up to 1000 W")
        check(self.max_test >= 0 and self.seed >= 0, "max_test, seed", (self.max_test, self.seed), "0 or more")


def measured_epochs(epochs: int) -> list[int]:
    """Returns the epochs after which a run of so many is measured: 1, 2, 4, 8, 16 … and the last."""
    return sorted({2**power for power in range(epochs.bit_length()) if 2**power < epochs} | {epochs})
