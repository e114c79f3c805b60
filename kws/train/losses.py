"""Losses: for wake words the maximum over frames (positives just after the end, negatives anywhere); CTC for phones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kws.config import check

NEGATIVE = -1
"""End frame of a window that doesn't hold the keyword."""


@dataclass(frozen=True)
class LossConfig:
    """Where the head may fire, and what firing elsewhere costs.

    Attributes:
        tail_s: seconds after the word's end in which it must fire.
        early_s: seconds before the word's end in which it may fire already.
        memory_s: seconds after the tail in which the head may still remember the word.
        smoothing_frames: moving average over logits before the maximum; half of the trigger's, which learns best.
        negative_weight: cost of firing on a negative against that of missing a positive.
        early_weight: cost of firing before the word has ended.
        frame_weight: share of the mean over all negative frames beside their maximum.
    """

    tail_s: float = 0.24
    early_s: float = 0.06
    memory_s: float = 0.8
    smoothing_frames: int = 6
    negative_weight: float = 4.0
    early_weight: float = 1.0
    frame_weight: float = 0.5

    def __post_init__(self) -> None:
        for name in ("tail_s", "early_s", "memory_s"):
            check(0 <= getattr(self, name) <= 5, f"loss.{name}", getattr(self, name), "0 to 5 seconds")
        for name in ("negative_weight", "early_weight", "frame_weight"):
            check(0 <= getattr(self, name) <= 100, f"loss.{name}", getattr(self, name), "0 to 100")
        check(1 <= self.smoothing_frames <= 50, "loss.smoothing_frames", self.smoothing_frames, "1 to 50")


def wake_word_loss(logits: Tensor, end_frames: Tensor, config: LossConfig, hop_s: float) -> Tensor:
    """Returns the mean loss of a batch for one keyword, a scalar.

    Args:
        logits: (batch, num_frames).
        end_frames: (batch,) int64: the frame in which the word ends, `NEGATIVE` where there is none.
        config: regions and weights.
        hop_s: seconds between two frames.

    Source: max-pooling loss, Sun et al. 2017, arXiv:1705.02411, eq. 4, restricted to the frames after the word's end.
    """
    smoothed = _smooth(logits, config.smoothing_frames)
    frames = torch.arange(logits.shape[1], device=logits.device)[None]
    end = end_frames[:, None]
    is_positive = end_frames != NEGATIVE
    tail, early, memory = (round(seconds / hop_s) for seconds in (config.tail_s, config.early_s, config.memory_s))
    may_fire = is_positive[:, None] & (frames >= end - early) & (frames <= end + tail)
    may_remember = is_positive[:, None] & (frames > end + tail) & (frames <= end + tail + memory)
    must_not = ~may_fire & ~may_remember

    hit = F.softplus(-_masked_max(smoothed, may_fire))
    false_alarm = F.softplus(_masked_max(smoothed, must_not))
    frame_cost = (F.softplus(logits) * must_not).sum(1) / must_not.sum(1).clamp(min=1)
    cost_of_firing = false_alarm + config.frame_weight * frame_cost
    positive = hit + config.early_weight * cost_of_firing
    return torch.where(is_positive, positive, config.negative_weight * cost_of_firing).mean()


def _masked_max(logits: Tensor, mask: Tensor) -> Tensor:
    return logits.masked_fill(~mask, -1e4).amax(dim=1)


def _smooth(logits: Tensor, num_frames: int) -> Tensor:
    """Averages each frame with the `num_frames − 1` before it, as the trigger does."""
    padded = F.pad(logits[:, None], (num_frames - 1, 0), mode="replicate")
    return F.avg_pool1d(padded, num_frames, stride=1)[:, 0]


def ctc_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the CTC loss of the phones that `labels` run through, per phone.

    Source: Graves et al. 2006. Frames give the phones of the crop itself, so nothing outside it is asked for.

    Args:
        logits: (batch, num_frames, num_classes) float32.
        labels: (batch, num_frames) int64 frame classes, 0 for silence.
    """
    is_start = torch.ones_like(labels, dtype=torch.bool)
    is_start[:, 1:] = labels[:, 1:] != labels[:, :-1]
    is_start &= labels != 0
    lengths = is_start.sum(dim=1)
    frames = torch.full_like(lengths, labels.shape[1])
    log_probs = torch.log_softmax(logits, dim=-1).transpose(0, 1)  # (num_frames, batch, num_classes)
    return F.ctc_loss(log_probs, labels[is_start], frames, lengths, blank=0, zero_infinity=True)
