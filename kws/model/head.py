"""The trigger-word network: linear + norm + ReLU ─▶ causal temporal layer ─▶ linear, a logit per keyword and frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.model.settings import HeadConfig


class Head(nn.Module):
    """Encoder frames → logits, with `forward(x, cache) → (y, cache)` as a stream needs it.

    Args:
        dim: width of an encoder frame.
        num_keywords: logits a frame.
        config: size and kind.
        num_states: layers in a frame (`Encoder.num_states`); more than one are weighed by a learned softmax.
    """

    def __init__(self, dim: int, num_keywords: int, config: HeadConfig, num_states: int = 1) -> None:
        super().__init__()
        self.config = config
        self.num_states = num_states
        self.state_weights = nn.Parameter(torch.zeros(num_states), requires_grad=num_states > 1)
        self.input = nn.Linear(dim // num_states, config.width)
        self.norm = nn.GroupNorm(config.num_members, config.width)  # layer norm of each member
        self.temporal: nn.Module
        if config.kind == "gru":
            self.temporal = nn.GRU(config.width, config.width, batch_first=True)
        else:
            self.temporal = nn.Conv1d(
                config.width, config.width, config.kernel, dilation=config.dilation, groups=config.num_members
            )
        self.output = nn.Linear(config.width, num_keywords)

    def initial_cache(self, batch: int = 1) -> Tensor:
        """Returns the cache of a head that has seen nothing."""
        if self.config.kind == "gru":
            return self.output.weight.new_zeros(1, batch, self.config.width)
        return self.output.weight.new_zeros(batch, self.config.width, (self.config.kernel - 1) * self.config.dilation)

    def forward(self, frames: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (batch, num_frames, num_keywords) logits of (batch, num_frames, dim) frames, and the next cache."""
        logits, cache = self.member_logits(frames, cache)
        return logits.mean(3), cache

    def member_logits(self, frames: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (batch, num_frames, num_keywords, members) logits, each by one member alone, and the next cache."""
        if self.num_states > 1:
            states = frames.unflatten(2, (self.num_states, -1))
            frames = (states * self.state_weights.softmax(0)[:, None]).sum(2)
        hidden = self.input(frames)  # (batch, num_frames, width)
        hidden = F.relu(self.norm(hidden.flatten(0, 1)).view_as(hidden))
        if self.config.kind == "gru":
            hidden, cache = self.temporal(hidden, cache)
        else:
            padded = torch.cat([cache, hidden.transpose(1, 2)], dim=2)
            hidden = F.relu(self.temporal(padded)).transpose(1, 2)
            cache = padded[:, :, padded.shape[2] - cache.shape[2] :]
        members = (self.config.num_members, self.config.hidden)
        weight = self.output.weight.unflatten(1, members)
        logits = torch.einsum("btmh,kmh->btkm", hidden.unflatten(2, members), weight)
        return logits + self.output.bias[:, None], cache
