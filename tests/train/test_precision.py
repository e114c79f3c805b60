"""bfloat16 only where it is multiplied: what the processor says decides, in pretraining as in transfer."""

from __future__ import annotations

import copy

import pytest
import torch

from kws.model.head import Head
from kws.model.settings import EncoderConfig, HeadConfig
from kws.train.optimisers import Muon
from kws.train.precision import multiplies_bfloat16
from kws.train.transfer.modes import TransferConfig, open_encoder
from kws.train.transfer.trainer import TransferTrainer

RATE, DECAY = 0.02, 0.1


def pretend(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True}, False), ({"avx512_f": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True),
     ({"amx_bf16": True}, True), ({}, False)],
)  # fmt: skip
def test_the_processor_says_whether_it_multiplies_bfloat16(monkeypatch, capabilities, expected):
    pretend(monkeypatch, **capabilities)
    assert multiplies_bfloat16("cpu") is expected


@pytest.mark.parametrize(
    ("asked", "is_fast", "expected"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_transfer_encodes_in_bfloat16_where_asked_and_fast(monkeypatch, tiny_encoder_folder, asked, is_fast, expected):
    pretend(monkeypatch, amx_bf16=is_fast)
    transfer = TransferConfig(mode="last", last_layers=1, bf16=asked)
    encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), transfer, 0)
    trainer = TransferTrainer(encoder, Head(encoder.dim, 1, HeadConfig(hidden=8)), transfer, 1, seed=0)
    product = torch.randn(3, encoder.dim)
    seen = []

    def encode():
        seen.append((product @ product.T).dtype)
        return torch.randn(2, 9, encoder.dim)

    trainer.step(encode, lambda head, frames: head(frames, head.initial_cache(2))[0].mean())
    assert seen == [expected]


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (16, 16)])
@pytest.mark.parametrize("is_fast", [False, True])
def test_muon_steps_as_torch_does_within_the_rounding_of_bfloat16(monkeypatch, shape, is_fast):
    pretend(monkeypatch, amx_bf16=is_fast)
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape, generator=generator))
    theirs = copy.deepcopy(ours)
    before = ours.detach().clone()
    optimisers = (
        Muon([ours], RATE, DECAY),
        torch.optim.Muon([theirs], lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):  # the second step and the third show the momentum
        gradient = torch.randn(shape, generator=generator)
        for matrix, optimiser in zip((ours, theirs), optimisers):
            matrix.grad = gradient.clone()
            optimiser.step()
    expected = (theirs - before).norm()
    assert (ours - theirs).norm() < (1e-6 if is_fast else 0.02) * expected
    assert expected > 0.1


def test_muon_in_float32_evens_out_the_singular_values():
    matrix = torch.nn.Parameter(torch.zeros(8, 20))
    matrix.grad = torch.diag(torch.tensor([4.0, 2, 1, 1, 0.5, 0.5, 0.2, 0.2])) @ torch.eye(8, 20)
    Muon([matrix], lr=1.0, weight_decay=0.0).step()
    values = torch.linalg.svdvals(matrix.detach()) / (0.2 * 20**0.5)
    assert values.min() > 0.6
    assert values.max() < 1.3
