"""The trigger-word network: linear + norm + ReLU ─▶ causal temporal layer ─▶ linear, a logit per keyword and frame."""

from __future__ import annotations

from typing import cast

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

    def member_logits(self, frames: Tensor, cache: Tensor, members: range | None = None) -> tuple[Tensor, Tensor]:
        """Returns (batch, num_frames, num_keywords, members) logits, each by one member alone, and the next cache.

        Args:
            frames: (batch, num_frames, dim).
            cache: of all members.
            members: only these answer; by default all.
        """
        if self.num_states > 1:
            states = frames.unflatten(2, (self.num_states, -1))
            frames = (states * self.state_weights.softmax(0)[:, None]).sum(2)
        members = members or range(self.config.num_members)
        units = slice(members.start * self.config.hidden, members.stop * self.config.hidden)
        hidden = F.linear(frames, self.input.weight[units], self.input.bias[units])  # (batch, num_frames, width)
        hidden = F.relu(self._normed(hidden, units))
        if self.config.kind == "gru":
            hidden, cache = self.temporal(hidden, cache)
        else:
            padded = torch.cat([cache[:, units].transpose(1, 2), hidden], dim=1)
            hidden = F.relu(self._convolved(padded, units))
            cache = padded[:, padded.shape[1] - cache.shape[2] :].transpose(1, 2)
        by_member = (len(members), self.config.hidden)
        weight = self.output.weight[:, units].unflatten(1, by_member)
        logits = torch.einsum("btmh,kmh->btkm", hidden.unflatten(2, by_member), weight)
        return logits + self.output.bias[:, None], cache

    def _normed(self, hidden: Tensor, units: slice) -> Tensor:
        """Returns `norm` of (batch, num_frames, width): `F.group_norm` takes three times as long to train on a CPU."""
        members = hidden.unflatten(2, (-1, self.config.hidden))
        normed = F.layer_norm(members, members.shape[3:], eps=self.norm.eps).flatten(2)
        return normed * self.norm.weight[units] + self.norm.bias[units]

    def _convolved(self, padded: Tensor, units: slice) -> Tensor:
        """Returns `temporal` of (batch, past and new frames, width), as an image: twice as fast to train on a CPU."""
        image, layer = padded[:, None].permute(0, 3, 1, 2), cast(nn.Conv1d, self.temporal)  # channels last in memory
        kernel, bias = layer.weight[units, :, None], cast(Tensor, layer.bias)[units]
        groups = len(kernel) // self.config.hidden
        convolved = F.conv2d(image, kernel, bias, dilation=(1, self.config.dilation), groups=groups)
        return convolved.permute(0, 2, 3, 1)[:, 0]
