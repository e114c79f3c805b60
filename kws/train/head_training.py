"""Training the head on cached frames: shuffled batches, one-cycle rate, rounds of hard negatives, resumable."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.config import check
from kws.model.head import Head
from kws.train.losses import NEGATIVE, LossConfig, wake_word_loss

HARD_SHARE = 0.25
"""Share of the negatives that counts as hard after a round: those with the highest scores."""


@dataclass(frozen=True)
class HeadTrainingConfig:
    """How the head is trained.

    Attributes:
        epochs: passes over the data in all.
        rounds: parts of the epochs; after each, the negatives that score highest are shown twice as often.
        batch_size: windows a step.
        learning_rate: peak of the one-cycle schedule of AdamW.
        weight_decay: of AdamW.
        dropout: share of frame values set to zero in training.
        noise: standard deviation of the noise added to frames, in units of the batch's own.
    """

    epochs: int = 8
    rounds: int = 3
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.3
    noise: float = 0.0

    def __post_init__(self) -> None:
        check(1 <= self.epochs <= 10_000, "training.epochs", self.epochs, "1 to 10000")
        check(1 <= self.rounds <= self.epochs, "training.rounds", self.rounds, "1 to epochs")
        check(1 <= self.batch_size <= 65_536, "training.batch_size", self.batch_size, "1 to 65536")
        check(0 < self.learning_rate <= 1, "training.learning_rate", self.learning_rate, "above 0, up to 1")
        check(0 <= self.weight_decay <= 1, "training.weight_decay", self.weight_decay, "0 to 1")
        check(0 <= self.dropout < 1, "training.dropout", self.dropout, "0 to below 1")
        check(0 <= self.noise <= 10, "training.noise", self.noise, "0 to 10")


@dataclass(frozen=True)
class FrameSet:
    """Encoded windows.

    Attributes:
        frames: (num_windows, num_frames, dim) float16.
        end_frames: (num_windows,) int64: where the word ends, `NEGATIVE` without one.
    """

    frames: np.ndarray
    end_frames: np.ndarray


class HeadTrainer:
    """Trains one head; `run` may be interrupted and, from the same `checkpoint`, goes on where it was."""

    def __init__(
        self,
        head: Head,
        data: FrameSet,
        config: HeadTrainingConfig,
        loss: LossConfig,
        hop_s: float,
        seed: int,
        checkpoint: Path | None = None,
    ) -> None:
        self.head, self.data, self.config, self.loss, self.hop_s = head, data, config, loss, hop_s
        self.checkpoint = checkpoint
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = torch.ones(len(data.end_frames))
        self.steps_per_epoch = max(1, len(data.end_frames) // config.batch_size)
        self.optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.learning_rate, total_steps=self.steps_per_epoch * config.epochs + 1
        )
        self.losses: list[float] = []
        self._trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
        self._parts = halves(head.config.num_members)  # each on a core of its own

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> list[float]:
        """Trains to the end and returns the mean loss of each epoch."""
        self._resume()
        epochs_per_round = -(-self.config.epochs // self.config.rounds)
        with ThreadPoolExecutor(len(self._parts)) as executor:
            while len(self.losses) < self.config.epochs:
                progress(len(self.losses), self.config.epochs)
                if self.losses and len(self.losses) % epochs_per_round == 0:
                    self._weigh_hard_negatives()
                self.losses.append(self._train_epoch(executor))
                self._save()
        progress(self.config.epochs, self.config.epochs)
        self.head.eval()
        return self.losses

    def _train_epoch(self, executor: ThreadPoolExecutor) -> float:
        self.head.train()
        total = 0.0
        num_drawn = min(len(self.weights), self.steps_per_epoch * self.config.batch_size)
        is_weighted = bool((self.weights != 1).any())
        order = torch.multinomial(self.weights, num_drawn, replacement=is_weighted, generator=self.generator)
        for indices in order.split(self.config.batch_size):
            frames = torch.from_numpy(self.data.frames[indices.numpy()]).float()
            ends = torch.from_numpy(self.data.end_frames[indices.numpy()])
            found = executor.map(partial(self._gradients, self._perturb(frames), ends), self._parts)
            losses, gradients = zip(*found)
            for parameter, of_parts in zip(self._trained, zip(*gradients)):
                parameter.grad = sum(of_parts)
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
            self.optimizer.step()
            if self.schedule.last_epoch < self.schedule.total_steps - 1:
                self.schedule.step()
            total += sum(losses) * len(indices)
        return total / num_drawn

    def _gradients(self, frames: Tensor, ends: Tensor, members: range) -> tuple[float, tuple[Tensor, ...]]:
        """Returns what `members` add to the loss of the head, and to its gradients."""
        share = len(members) / self.head.config.num_members
        loss = share * head_loss(self.head, frames, ends, self.loss, self.hop_s, members)
        return loss.item(), torch.autograd.grad(loss, self._trained)

    def _perturb(self, frames: Tensor) -> Tensor:
        keep = torch.rand(frames.shape[0], 1, frames.shape[2], generator=self.generator) >= self.config.dropout
        if self.config.noise:
            frames = frames + torch.randn(frames.shape, generator=self.generator) * (self.config.noise * frames.std())
        return frames * keep / (1 - self.config.dropout)

    @torch.inference_mode()
    def _weigh_hard_negatives(self) -> None:
        """Doubles the weight of the negatives that fire most, so that the next epochs see them more."""
        self.head.eval()
        peaks = torch.cat(
            [
                self.head(torch.from_numpy(block).float(), self.head.initial_cache(len(block)))[0][:, :, 0].amax(1)
                for block in np.array_split(self.data.frames, max(1, len(self.data.frames) // 256))
            ]
        )
        is_negative = torch.from_numpy(self.data.end_frames == NEGATIVE)
        if is_negative.any():
            hard = peaks >= torch.quantile(peaks[is_negative], 1 - HARD_SHARE)
            self.weights = torch.where(is_negative & hard, 2.0, 1.0)

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        temporary = self.checkpoint.with_suffix(".tmp")
        state = {
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "weights": self.weights,
            "losses": self.losses,
        }
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.weights, self.losses = state["weights"], state["losses"]


def halves(num_members: int) -> list[range]:
    """Returns the first and the second half of the members, or the one that there is."""
    middle = num_members // 2
    return [part for part in (range(middle), range(middle, num_members)) if part]


def head_loss(
    head: Head, frames: Tensor, end_frames: Tensor, config: LossConfig, hop_s: float, members: range | None = None
) -> Tensor:
    """Returns the mean loss of the members of `head` for a batch, each by itself; see `wake_word_loss`.

    Args:
        head: of one keyword.
        frames: (batch, num_frames, dim).
        end_frames: (batch,) int64: the frame in which the word ends, `NEGATIVE` where there is none.
        config: regions and weights.
        hop_s: seconds between two frames.
        members: only theirs; by default of all.
    """
    logits, _ = head.member_logits(frames, head.initial_cache(len(frames)), members)  # (batch, num_frames, 1, members)
    of_members = logits[:, :, 0].permute(2, 0, 1).flatten(0, 1)  # (members * batch, num_frames)
    return wake_word_loss(of_members, end_frames.repeat(logits.shape[3]), config, hop_s)
