"""The optimisers of pretraining: AdamW, or Muon for the matrices of the transformer layers and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from kws.train.phone_model import PhoneModel
from kws.train.precision import multiplies_bfloat16
from kws.train.pretrain_config import PretrainConfig

MOMENTUM = 0.95
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x³ and x⁵ by which a few steps bring singular values from 0 … 1 to about 0.7 … 1.2."""
NUM_STEPS = 5
LEAST_NORM = 1e-7
RMS_OF_ADAMW = 0.2
"""Root mean square of a typical update of AdamW, at a rate of 1."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for matrices.

    `torch.optim.Muon` in float32 where bfloat16 is slow; it knows bfloat16 alone.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the coefficients, the
    Nesterov momentum and the steps of its code; updates scaled like AdamW's, Liu et al. 2025, arXiv:2502.16982, §2.2.

    Args:
        matrices: what it changes.
        lr: rate.
        weight_decay: share of a weight that is taken off at a rate of 1.
    """

    def __init__(self, matrices: Iterable[torch.nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Changes every matrix that has a gradient; takes no closure."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum: Tensor = state["momentum_buffer"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonalised(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * RMS_OF_ADAMW * math.sqrt(max(matrix.shape)))


def orthogonalised(matrix: Tensor) -> Tensor:
    """Returns about U Vᵀ of the (rows, columns) `matrix` = U S Vᵀ, by Newton-Schulz steps."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    if multiplies_bfloat16(matrix.device.type):
        wide = wide.bfloat16()
    wide = wide / wide.norm().clamp(min=LEAST_NORM)
    first, third, fifth = QUINTIC
    for _ in range(NUM_STEPS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), wide, beta=first)
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).to(matrix.dtype)


def make_optimisers(model: PhoneModel, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Returns AdamW for everything or, with Muon, for what are no matrices inside the network; one rate serves both."""
    inner = set(model.encoder.transformer_layers.parameters())
    matrices: list[torch.nn.Parameter] = []
    decayed: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for value in model.parameters():
        is_matrix = config.optimiser == "muon" and value in inner and value.ndim == 2
        (matrices if is_matrix else decayed if value.ndim > 1 else rest).append(value)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    ]
    if matrices:
        optimisers.append(Muon(matrices, config.learning_rate, config.weight_decay))
    return optimisers
