"""The optimisers of pretraining: AdamW, or Muon for the matrices of the transformer layers and AdamW for the rest."""

from __future__ import annotations

import torch

from kws.train.phone_model import PhoneModel
from kws.train.pretrain_config import PretrainConfig


def make_optimisers(model: PhoneModel, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Returns AdamW for everything or, with Muon, for what are no matrices inside the network.

    Source: Jordan et al. 2024, "Muon"; its updates scaled like AdamW's (Liu et al. 2025, arXiv:2502.16982), so that one
    learning rate serves both.
    """
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
        optimisers.append(
            torch.optim.Muon(
                matrices,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimisers
