"""The transfer study: every mode learns the same clips, from few to all ─▶ cells, kept one by one as JSON lines.

material ─▶ windows ─▶ (mode, size, seed) ─▶ trained network ─▶ scores on the same test after some epochs ─▶ cell
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kws.config import to_dict
from kws.errors import ConfigError
from kws.evaluate.learning_curves import Cell, mean_recall
from kws.model.encoder import Encoder
from kws.model.encoder_folder import CONFIG_FILE, find_encoder_folder
from kws.model.files import sha256_of, write_atomically
from kws.model.head import Head
from kws.train.features import encode, one_thread_per_operation
from kws.train.transfer.ctc_task import open_ctc_task
from kws.train.transfer.modes import (
    FROM_NOTHING,
    MODES,
    Mode,
    TransferConfig,
    count_parameters,
    open_encoder,
    seeded,
)
from kws.train.transfer.study_config import ALL, StudyConfig, measured_epochs
from kws.train.transfer.study_windows import Windows
from kws.train.transfer.trainer import TransferTrainer

CELLS_FILE = "cells.jsonl"
Key = tuple[int, int]
"""(training piece, variant)."""


@dataclass(frozen=True)
class CellKey:
    """Which run."""

    mode: Mode
    size: int
    seed: int


class StudyRun:
    """One study in a folder: what is done is kept there, and not done again.

    Args:
        config: what is compared.
        windows: of the material.
        out: folder of `cells.jsonl`.
    """

    def __init__(self, config: StudyConfig, windows: Windows, out: Path) -> None:
        self.config, self.windows, self.material = config, windows, windows.material
        self.path = out / CELLS_FILE
        self._frames: dict[Key, np.ndarray] = {}
        self._frozen: Encoder | None = None
        self._test_frames: np.ndarray | None = None
        self._encoding_s, self._num_encoded = 0.0, 0
        out.mkdir(parents=True, exist_ok=True)

    def keys(self) -> list[CellKey]:
        """Returns the runs, seed by seed, so that a study that is stopped has compared all modes."""
        largest = self.material.num_largest
        sizes = sorted({largest if size == ALL else min(size, largest) for size in self.config.sizes})
        modes: list[Mode] = [mode for mode in MODES if mode in self.config.modes]
        return [CellKey(mode, size, seed) for seed in range(self.config.seeds) for size in sizes for mode in modes]

    def finished(self) -> list[Cell]:
        """Returns the cells that are done, in the order of `keys`.

        Raises:
            ConfigError: `cells.jsonl` is damaged.
        """
        found = {(cell.mode, cell.size, cell.seed, cell.setting): cell for cell in _read_cells(self.path)}
        wanted = [(key.mode, key.size, key.seed, self._setting(key.mode)) for key in self.keys()]
        return [found[key] for key in wanted if key in found]

    def run(
        self, progress: Callable[[str, int, int], None] = lambda stage, done, total: None, minutes: float = 0.0
    ) -> list[Cell]:
        """Trains what is missing and returns all cells; interrupted, the finished ones stay.

        Args:
            progress: called with (stage, done, total).
            minutes: after which no further cell is begun; 0 for no such limit.
        """
        done = {(cell.mode, cell.size, cell.seed) for cell in self.finished()}
        keys, began_s = self.keys(), time.monotonic()
        missing = [key for key in keys if (key.mode, key.size, key.seed) not in done]
        progress("study", len(keys) - len(missing), len(keys))
        for number, key in enumerate(missing, len(keys) - len(missing) + 1):
            if minutes and time.monotonic() - began_s > 60 * minutes:
                break
            with one_thread_per_operation():
                cell = self._train(key, progress)
            kept = self.path.read_bytes() if self.path.is_file() else b""
            write_atomically(self.path, kept + json.dumps(cell.to_dict()).encode() + b"\n")
            progress("study", number, len(keys))
        return self.finished()

    def encoder_sha256(self) -> str:
        """Returns the hash of the encoder that is carried over."""
        folder = find_encoder_folder(self.config.encoder.name)
        weights = None if folder is None else folder / "model.safetensors"
        return sha256_of(weights) if weights is not None and weights.is_file() else ""

    def _setting(self, mode: Mode) -> str:
        """Returns the fingerprint of what decides a cell beside its key; a network from nothing needs no weights."""
        values = to_dict(self.config)
        for name in ("modes", "sizes", "seeds", "watts"):
            del values[name]
        values |= {"material": self.material.fingerprint, "mode": mode}
        if mode not in FROM_NOTHING:
            values["encoder_sha256"] = self.encoder_sha256()
        elif mode == "random" and (folder := find_encoder_folder(self.config.encoder.name)):
            values["encoder_config"] = sha256_of(folder / CONFIG_FILE)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def _train(self, key: CellKey, progress: Callable[[str, int, int], None]) -> Cell:
        trainer, stage = self._trainer(key), f"{key.mode}, {key.size} clips, seed {key.seed}"
        encoder, head, epochs = trainer.encoder, trainer.head, measured_epochs(self.config.epochs)
        batches, used, scores, cpu_s = self._batches(key), set[Key](), [], 0.0
        predicted = np.zeros(0, np.int64)
        for epoch in range(1, self.config.epochs + 1):
            progress(stage, epoch - 1, self.config.epochs)
            for _ in range(self._steps_an_epoch):
                keys, labels = next(batches)
                used.update(keys)
                cpu_s += self._step(trainer, key.mode, keys, labels)
            if epoch in epochs:
                predicted = self._predict(encoder, head, key.mode)
                scores.append(round(mean_recall(self.material.truth, predicted), 5))
        progress(stage, self.config.epochs, self.config.epochs)
        if key.mode == "frozen":
            cpu_s += len(used) * self._encoding_s / max(1, self._num_encoded)
        return Cell(
            mode=key.mode,
            size=key.size,
            seed=key.seed,
            epochs=tuple(epochs),
            scores=tuple(scores),
            predicted=tuple(map(int, predicted)),
            trained_parameters=count_parameters(encoder, head, trained_only=True),
            parameters=count_parameters(encoder, head),
            cpu_s=round(cpu_s, 2),
            setting=self._setting(key.mode),
        )

    @property
    def _steps_an_epoch(self) -> int:
        return -(-self.config.epoch_windows // self.config.transfer.batch_size)

    def _trainer(self, key: CellKey) -> TransferTrainer:
        config, transfer = self.config, self._transfer(key.mode)
        encoder = self._encoder(key, transfer)
        with seeded(key.seed):
            head = Head(encoder.dim, len(self.material.labels), config.head, encoder.num_states)
        task = None
        if transfer.ctc_weight:
            task = open_ctc_task(transfer.ctc_speech, encoder, transfer.ctc_batch_size)
        return TransferTrainer(encoder, head, transfer, self._steps_an_epoch * config.epochs, key.seed, task)

    def _step(self, trainer: TransferTrainer, mode: Mode, keys: Sequence[Key], labels: Tensor) -> float:
        """Trains on one batch and returns the CPU seconds that it took."""
        inputs = self._inputs(mode, keys)
        frames = (lambda: inputs) if mode == "frozen" else partial(trainer.encoder, inputs)
        began_s = time.process_time()
        trainer.step(frames, partial(clip_loss, labels=labels))
        return time.process_time() - began_s

    def _transfer(self, mode: Mode) -> TransferConfig:
        has_ctc = mode in ("last", "full")
        return replace(self.config.transfer, mode=mode, ctc_weight=self.config.transfer.ctc_weight if has_ctc else 0.0)

    def _encoder(self, key: CellKey, transfer: TransferConfig) -> Encoder:
        if key.mode != "frozen":
            return open_encoder(self.config.encoder, transfer, key.seed)
        if self._frozen is None:
            self._frozen = open_encoder(self.config.encoder, transfer, key.seed)
        return self._frozen

    def _batches(self, key: CellKey) -> Iterator[tuple[list[Key], Tensor]]:
        """Yields batches of windows in which every label is as likely; the same for every mode."""
        chosen = self.material.subset(key.size, key.seed)
        rng, size = np.random.default_rng([key.seed, key.size, 13]), self.config.transfer.batch_size
        while True:
            labels = rng.permutation(np.resize(rng.permutation(len(chosen)), size))
            keys = [(int(rng.choice(chosen[label])), int(rng.integers(self.config.variants))) for label in labels]
            yield keys, torch.from_numpy(labels)

    def _inputs(self, mode: Mode, keys: Sequence[Key]) -> Tensor:
        if mode != "frozen":
            return torch.from_numpy(self.windows.train(keys))
        missing = [key for key in dict.fromkeys(keys) if key not in self._frames]
        if missing:
            assert self._frozen is not None
            windows = self.windows.train(missing)
            began_s = time.process_time()
            self._frames.update(zip(missing, encode(self._frozen, windows)))
            self._encoding_s += time.process_time() - began_s
            self._num_encoded += len(missing)
        return torch.from_numpy(np.stack([self._frames[key] for key in keys]))

    @torch.inference_mode()
    def _predict(self, encoder: Encoder, head: Head, mode: Mode) -> np.ndarray:
        encoder.eval()
        head.eval()
        if mode != "frozen":
            frames = encode(encoder, self.windows.test())
        else:
            if self._test_frames is None:
                self._test_frames = encode(encoder, self.windows.test())
            frames = self._test_frames
        return classify(head, frames)


def pool(logits: Tensor) -> Tensor:
    """Returns (batch, num_labels, …) of (batch, num_frames, num_labels, …): the smooth maximum over the frames.

    Source: the max-pooling loss, Sun et al. 2017, arXiv:1705.02411, with log-mean-exp in place of the maximum, which
    lets every frame learn.
    """
    return torch.logsumexp(logits, dim=1) - float(np.log(logits.shape[1]))


def classify(head: Head, frames: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Returns (num_clips,) the label that `head` hears in each of (num_clips, num_frames, dim) `frames`."""
    heard = []
    for start in range(0, len(frames), batch_size):
        batch = torch.from_numpy(frames[start : start + batch_size]).float()
        heard.append(pool(head(batch, head.initial_cache(len(batch)))[0]).argmax(1).numpy())
    return np.concatenate(heard)


def clip_loss(head: Head, frames: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean cross-entropy of the members of `head`, each by itself.

    Args:
        head: with an output for each label.
        frames: (batch, num_frames, dim).
        labels: (batch,) int64.
    """
    logits, _ = head.member_logits(frames, head.initial_cache(len(frames)))  # (batch, num_frames, num_labels, members)
    return F.cross_entropy(pool(logits), labels[:, None].expand(-1, logits.shape[3]))


def _read_cells(path: Path) -> list[Cell]:
    if not path.is_file():
        return []
    cells = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            cells.append(Cell.read(json.loads(line)))
        except (ValueError, AttributeError, ConfigError) as error:
            raise ConfigError(f"{path}, line {number} is damaged ({error}); remove it") from error
    return cells
