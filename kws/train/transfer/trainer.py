"""Trains a head and, as the transfer mode says, the encoder under it: windows ─▶ frames ─▶ head ─▶ loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kws.model.encoder import Encoder
from kws.model.head import Head
from kws.train.precision import multiplies_bfloat16
from kws.train.transfer.ctc_task import CtcTask
from kws.train.transfer.modes import TransferConfig, parameter_groups, trained_at

Loss = Callable[[Head, Tensor], Tensor]
"""The head and (batch, num_frames, dim) float32 frames ─▶ a scalar; each of the head's members is to have its own."""

GRADIENT_NORM = 1.0
WEIGHT_DECAY = 0.01
WARM_UP, FIRST_SHARE = 0.15, 10.0
"""Share of the run in which the rates rise, and how many times lower they begin."""


class TransferTrainer:
    """One run over a fixed number of batches; its state can be saved and loaded.

    Args:
        encoder: from `open_encoder`.
        head: trained with it.
        transfer: mode and rates.
        num_steps: batches in all, which the rates' one cycle spans.
        seed: of dropout and of the transcribed speech that is drawn.
        ctc_task: trained beside the head, or None.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        transfer: TransferConfig,
        num_steps: int,
        seed: int,
        ctc_task: CtcTask | None = None,
    ) -> None:
        self.encoder, self.head, self.transfer, self.num_steps = encoder, head, transfer, num_steps
        self.ctc_task = ctc_task
        self.num_done = 0
        self._seed = seed
        groups = parameter_groups(encoder, head, transfer)
        if ctc_task is not None:
            groups.append({"params": list(ctc_task.parameters()), "lr": transfer.encoder_learning_rate})
        self._optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        rates = [group["lr"] for group in groups]
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, rates, total_steps=num_steps + 1, pct_start=WARM_UP, div_factor=FIRST_SHARE
        )
        self._parameters = [parameter for group in groups for parameter in group["params"]]

    def step(self, encode: Callable[[], Tensor], loss: Loss) -> float:
        """Changes the weights by one batch and returns its loss.

        Args:
            encode: gives the (batch, num_frames, dim) frames, with gradients where the encoder learns.
            loss: of the head on those frames.
        """
        self._begin_step()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.transfer.bf16 and multiplies_bfloat16("cpu")):
            frames, of_ctc = encode(), self._ctc_loss()
        total = loss(self.head, self._drop(frames.float())) + of_ctc
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, GRADIENT_NORM)
        self._optimizer.step()
        self._schedule.step()
        self.num_done += 1
        return float(total.detach())

    def _ctc_loss(self) -> Tensor | float:
        """Returns the second task's loss with its weight, 0 without one."""
        if self.ctc_task is None:
            return 0.0
        rng = np.random.default_rng([self._seed, self.num_done])
        return self.transfer.ctc_weight * self.ctc_task.loss(self.encoder, rng)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that changes in training."""
        return {
            "encoder": self.encoder.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "ctc_task": None if self.ctc_task is None else self.ctc_task.state_dict(),
            "num_done": self.num_done,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where `state` was saved."""
        self.encoder.load_state_dict(state["encoder"])
        self.head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self.ctc_task is not None:
            self.ctc_task.load_state_dict(state["ctc_task"])
        self.num_done = state["num_done"]

    def _begin_step(self) -> None:
        num_layers = len(self.encoder.transformer_layers)
        trainable = trained_at(self.transfer, self.num_done / self.num_steps, num_layers)
        if trainable != self.encoder.settings.trainable_layers:
            self.encoder.train_layers(trainable)
        self.encoder.train()
        self.head.train()

    def _drop(self, frames: Tensor) -> Tensor:
        """Hides some of the frames' values over a whole window, as the head's own training does."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.num_done)
        dropout = self.transfer.frame_dropout
        keep = torch.rand(len(frames), 1, frames.shape[2], generator=generator) >= dropout
        return frames * keep / (1 - dropout)
