"""The loss rewards firing just after the word's end and nowhere else."""

import pytest
import torch

from kws.train.losses import NEGATIVE, LossConfig, wake_word_loss

HOP_S = 0.02
PLAIN = LossConfig(smoothing_frames=1, frame_weight=0.0)


def loss_of(peak_frames, end_frame, config=PLAIN, height=8.0):
    logits = torch.full((1, 150), -height)
    logits[0, peak_frames] = height
    return wake_word_loss(logits, torch.tensor([end_frame]), config, HOP_S).item()


def test_hand_computed_values():
    flat = torch.zeros(1, 150)
    softplus_of_zero = 0.6931
    positive = wake_word_loss(flat, torch.tensor([75]), PLAIN, HOP_S).item()
    negative = wake_word_loss(flat, torch.tensor([NEGATIVE]), PLAIN, HOP_S).item()
    assert positive == pytest.approx(softplus_of_zero * (1 + PLAIN.early_weight), abs=1e-3)
    assert negative == pytest.approx(softplus_of_zero * PLAIN.negative_weight, abs=1e-3)


def test_firing_just_after_the_end_is_cheap_and_elsewhere_dear():
    at_end = loss_of([77], 75)
    assert at_end < 0.01
    assert loss_of([40], 75) > 8  # before the word has ended, and silent where it should fire
    assert loss_of([40, 77], 75) > 4  # in both places
    assert loss_of([145], 75) > 8  # long after
    assert loss_of([100, 77], 75) < 0.01  # while the head may still remember the word: neither


def test_negatives_pay_for_their_highest_frame_only_with_frame_weight_zero():
    assert loss_of([10], NEGATIVE) == pytest.approx(loss_of([10, 90], NEGATIVE), rel=1e-5)
    assert loss_of([], NEGATIVE) < 0.01


def test_smoothing_makes_single_frames_count_less():
    smoothed = LossConfig(smoothing_frames=5, frame_weight=0.0)
    assert loss_of([10], NEGATIVE, smoothed) < loss_of([10], NEGATIVE)
