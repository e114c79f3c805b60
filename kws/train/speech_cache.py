"""Aligned speech on disk, as `recipes/pretrain/prepare.py` writes it: samples, and a phone class every 10 ms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from kws.data.alignment import STEP
from kws.errors import ConfigError

INT16_SCALE = 32768.0


class SpeechCache:
    """One prepared corpus split: `audio.npy`, `labels.npy` (a class every 10 ms) and `index.jsonl`.

    Raises:
        ConfigError: the folder lacks one of them.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        try:
            self.audio = np.load(folder / "audio.npy", mmap_mode="r")
            self.labels = np.load(folder / "labels.npy")
            lines = (folder / "index.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(f"{folder} is no prepared speech ({error}); run recipes/pretrain/prepare.py") from error
        self.name = folder.name
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self._share = np.cumsum([row["length"] for row in self.rows], dtype=np.float64)
        self._share /= self._share[-1]

    def draw(self, rng: np.random.Generator) -> int:
        """Returns a random utterance, the long ones more often, so that every second is as likely."""
        return int(np.searchsorted(self._share, rng.random()))

    def piece(self, index: int, first_step: int = 0, num_steps: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns float32 samples and step labels of utterance `index` from `first_step` on, cut to whole steps."""
        row = self.rows[index]
        whole = row["length"] // STEP
        last_step = whole if num_steps is None else min(whole, first_step + num_steps)
        start = row["start"]
        samples = self.audio[start + first_step * STEP : start + last_step * STEP].astype(np.float32) / INT16_SCALE
        labels = self.labels[row["label_start"] + first_step : row["label_start"] + last_step]
        return samples, labels
