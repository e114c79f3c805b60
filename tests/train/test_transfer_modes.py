"""Each transfer mode: what it trains, what it leaves bit for bit as it was, and what stays in `eval()`."""

from __future__ import annotations

import copy
import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kws.audio.io import write_audio
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE
from kws.model.head import Head
from kws.model.settings import ALL_LAYERS, EncoderConfig, HeadConfig
from kws.train.losses import NEGATIVE, LossConfig
from kws.train.transfer.ctc_task import encode_text, open_ctc_task
from kws.train.transfer.fine_tuning import _train
from kws.train.transfer.modes import (
    MODES,
    TransferConfig,
    count_parameters,
    encoder_groups,
    open_encoder,
    parameter_groups,
    trained_at,
)
from kws.train.transfer.study import clip_loss
from kws.train.transfer.trainer import TransferTrainer

NUM_STEPS = 6


def logits_of(head, frames):
    return head(frames, head.initial_cache(len(frames)))[0]


def squared(head, frames):
    return logits_of(head, frames).square().mean()


def trained(folder, mode, is_inspected=False, num_steps=NUM_STEPS, **settings):
    """Returns (encoder before, encoder after, head before, head after) of a short run."""
    transfer = TransferConfig(mode=mode, last_layers=1, **settings)
    encoder = open_encoder(EncoderConfig(name=str(folder)), transfer, seed=3)
    torch.manual_seed(0)
    head = Head(encoder.dim, 2, HeadConfig(hidden=8, kernel=3, dilation=1))
    before = copy.deepcopy(encoder), copy.deepcopy(head)
    trainer = TransferTrainer(encoder, head, transfer, num_steps, seed=0)
    waveforms = 0.1 * torch.randn(4, 8000, generator=torch.Generator().manual_seed(1))
    for _ in range(num_steps):
        trainer.step(partial(trainer.encoder, waveforms), squared)
    return before[0], encoder, before[1], head


def changed(before, after):
    """Returns the names of the parameters and buffers that differ in any bit."""
    old, new = (dict((*m.named_parameters(), *m.named_buffers())) for m in (before, after))
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_frozen_trains_the_head_alone(tiny_encoder_folder):
    encoder_before, encoder, head_before, head = trained(tiny_encoder_folder, "frozen")
    assert changed(encoder_before, encoder) == set()
    assert {"input.weight", "output.bias"} <= changed(head_before, head)
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_last_trains_the_last_layers_and_leaves_the_early_ones(tiny_encoder_folder):
    before, encoder, *_ = trained(tiny_encoder_folder, "last")
    names = changed(before, encoder)
    assert names
    assert all(name.startswith("encoder.layers.1.") for name in names)


@pytest.mark.parametrize("mode", ["full", "random", "small"])
def test_the_others_train_everything(tiny_encoder_folder, mode):
    before, encoder, *_ = trained(tiny_encoder_folder, mode, unfreeze_share=0.5, num_steps=12)
    learned = {name for name, _ in encoder.named_parameters()}
    # a key's bias moves all scores of a query alike, so that it has no gradient
    assert {name for name in learned if not name.endswith("k_proj.bias")} <= changed(before, encoder)
    assert not changed(before, encoder) & {name for name, _ in encoder.named_buffers()}


def test_random_begins_with_other_weights_of_the_same_shapes_and_small_with_far_fewer(tiny_encoder_folder):
    encoders = {
        mode: open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), TransferConfig(mode=mode), 0) for mode in MODES
    }
    shapes = {mode: {name: p.shape for name, p in e.named_parameters()} for mode, e in encoders.items()}
    assert shapes["random"] == shapes["frozen"] == shapes["full"]
    weight = {mode: next(iter(encoder.parameters())) for mode, encoder in encoders.items()}
    assert torch.equal(weight["full"], weight["frozen"])
    assert not torch.equal(weight["random"], weight["frozen"])
    assert encoders["random"].sha256 == encoders["small"].sha256 == ""


@pytest.mark.parametrize("mode", ["random", "small"])
def test_random_weights_come_from_the_seed_and_the_global_generator_is_left_alone(tiny_encoder_folder, mode):
    settings, transfer = EncoderConfig(name=str(tiny_encoder_folder)), TransferConfig(mode=mode)
    state = torch.get_rng_state()
    first, again, other = (open_encoder(settings, transfer, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert changed(first, again) == set()
    assert changed(first, other)


@pytest.mark.parametrize("mode", ["frozen", "last", "random"])
def test_what_is_frozen_stays_in_eval_whatever_is_asked(tiny_encoder_folder, mode):
    transfer = TransferConfig(mode=mode, last_layers=1)
    encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), transfer, 0)
    torch.nn.ModuleList([encoder]).train()
    states = {name: module.training for name, module in encoder.named_modules()}
    assert states["encoder.layers.0"] == (mode == "random")
    assert states["encoder.layers.1"] == (mode != "frozen")
    assert states["feature_extractor"] == (mode == "random")


def test_full_unfreezes_from_the_top_down(tiny_encoder_folder):
    transfer = TransferConfig(mode="full", unfreeze_share=0.6)
    stages = [trained_at(transfer, progress, num_layers=2) for progress in (0, 0.1, 0.2, 0.39, 0.4, 0.59, 0.6, 1.0)]
    assert stages == [0, 0, 1, 1, 2, 2, ALL_LAYERS, ALL_LAYERS]
    assert trained_at(TransferConfig(mode="full", unfreeze_share=0), 0.0, 2) == ALL_LAYERS
    before, encoder, head_before, head = trained(tiny_encoder_folder, "full", unfreeze_share=1.0, num_steps=2)
    assert changed(head_before, head)
    assert all(name.startswith("encoder.layers.1.") for name in changed(before, encoder))


def test_rates_fall_with_depth_and_every_parameter_is_in_one_group(tiny_encoder_folder):
    transfer = TransferConfig(mode="full", encoder_learning_rate=0.01, layer_decay=0.5, head_learning_rate=0.1)
    encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), transfer, 0)
    head = Head(encoder.dim, 1, HeadConfig(hidden=8, kernel=3, dilation=1))
    groups = parameter_groups(encoder, head, transfer)
    assert [group["lr"] for group in groups] == [0.1, 0.01, 0.005, 0.0025]
    assert groups[1]["params"][0] is next(encoder.transformer_layers[-1].parameters())
    counted = sum(parameter.numel() for group in encoder_groups(encoder) for parameter in group)
    assert counted == count_parameters(encoder)
    last = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), TransferConfig(mode="last", last_layers=1), 0)
    assert count_parameters(last, trained_only=True) == count_parameters(encoder.transformer_layers[-1])


@pytest.mark.parametrize(("mode", "rate"), [("random", 0.01), ("small", 0.02)])
def test_from_nothing_all_layers_learn_at_one_rate(tiny_encoder_folder, mode, rate):
    transfer = TransferConfig(mode=mode, random_learning_rate=0.01, scratch_learning_rate=0.02, layer_decay=0.5)
    encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), transfer, 0)
    groups = parameter_groups(encoder, Head(encoder.dim, 1, HeadConfig(hidden=8)), transfer)
    assert {group["lr"] for group in groups[1:]} == {rate}


def fine_tuned_once(trainer, frames, path):
    batches = SimpleNamespace(draw=lambda number: (lambda: frames, torch.tensor([12, NEGATIVE])))
    _train(trainer, batches, LossConfig(), path / f"{trainer.head.config.members}.ckpt", lambda done, total: None)


def studied_once(trainer, frames, path):
    trainer.step(lambda: frames, partial(clip_loss, labels=torch.tensor([0, 1])))


@pytest.mark.parametrize(("num_outputs", "train"), [(1, fine_tuned_once), (2, studied_once)])
def test_a_member_learns_as_if_it_were_alone(tiny_encoder_folder, tmp_path, num_outputs, train):
    """The first step of AdamW doesn't depend on the gradient's scale, only on where it points."""
    transfer, shape = TransferConfig(mode="frozen"), {"hidden": 3, "kernel": 2, "dilation": 1}
    encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), transfer, 0)
    torch.manual_seed(0)
    pair, alone = (Head(encoder.dim, num_outputs, HeadConfig(members=members, **shape)) for members in (2, 1))
    torch.nn.init.normal_(pair.output.weight, std=10)  # members that disagree
    alone.load_state_dict(
        {name: value[..., :3] if name == "output.weight" else value[:3] for name, value in pair.state_dict().items()}
    )
    before, frames = alone.temporal.weight.detach().clone(), torch.randn(2, 30, encoder.dim)
    for head in (pair, alone):
        train(TransferTrainer(encoder, head, transfer, 1, seed=0), frames, tmp_path)
    learned = alone.temporal.weight - before
    assert learned.abs().max() > 1e-4
    torch.testing.assert_close(pair.temporal.weight[:3] - before, learned, atol=1e-5, rtol=0)


def test_a_run_that_is_saved_and_loaded_goes_on_alike(tiny_encoder_folder):
    def start():
        transfer = TransferConfig(mode="last", last_layers=1)
        encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder)), transfer, 0)
        torch.manual_seed(0)
        head = Head(encoder.dim, 1, HeadConfig(hidden=8, kernel=3, dilation=1))
        return TransferTrainer(encoder, head, transfer, 4, seed=0)

    waveforms = 0.1 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))
    unbroken, broken, restarted = start(), start(), start()
    for trainer, count in ((unbroken, 4), (broken, 2)):
        for _ in range(count):
            trainer.step(partial(trainer.encoder, waveforms), squared)
    restarted.load_state_dict(broken.state_dict())
    for _ in range(2):
        restarted.step(partial(restarted.encoder, waveforms), squared)
    assert changed(unbroken.encoder, restarted.encoder) == changed(unbroken.head, restarted.head) == set()


@pytest.fixture
def transcribed(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for index in range(3):
        name = f"{index}.wav"
        write_audio(tmp_path / name, (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32))
        lines.append(json.dumps({"audio_filepath": name, "duration": 1.0, "text": "a barber"}))
    (tmp_path / "speech.jsonl").write_text("\n".join(lines))
    return str(tmp_path / "speech.jsonl")


def forgetting(folder, manifest, ctc_weight):
    """Returns the CTC loss on transcribed speech after training on something else, with the second task or without."""
    speech = {"ctc_weight": ctc_weight, "ctc_speech": manifest} if ctc_weight else {}
    transfer = TransferConfig(
        mode="full", unfreeze_share=0, encoder_learning_rate=3e-3, layer_decay=1, ctc_batch_size=3, **speech
    )
    encoder = open_encoder(EncoderConfig(name=str(folder)), transfer, 0)
    torch.manual_seed(0)
    head = Head(encoder.dim, 1, HeadConfig(hidden=8, kernel=3, dilation=1))
    task = open_ctc_task(manifest, encoder, 3)
    trainer = TransferTrainer(encoder, head, transfer, 30, 0, task if ctc_weight else None)
    waveforms = 0.1 * torch.randn(4, 4000, generator=torch.Generator().manual_seed(1))
    for _ in range(30):
        trainer.step(partial(trainer.encoder, waveforms), lambda head, frames: -logits_of(head, frames).mean())
    encoder.eval()
    with torch.inference_mode():
        return float(task.loss_of(encoder, task.clips))


def test_the_second_task_keeps_the_encoder_from_forgetting(tiny_encoder_folder, transcribed):
    alone, together = (forgetting(tiny_encoder_folder, transcribed, weight) for weight in (0.0, 1.0))
    assert together < 0.8 * alone


def test_text_becomes_the_labels_of_the_output_layer():
    assert encode_text("a barber", ("<pad>", "AA", "B", "|")) == [2, 1, 2]  # AH B AA R B ER: those it has
    letters = ("<pad>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "|", "'")
    assert [letters[index] for index in encode_text("Don't, Bob", letters)] == [*"DON'T|BOB"]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"mode": "thawed"}, "transfer.mode"),
        ({"mode": "last", "last_layers": 0}, "transfer.last_layers"),
        ({"layer_decay": 0.0}, "transfer.layer_decay"),
        ({"mode": "frozen", "ctc_weight": 0.5, "ctc_speech": "s.jsonl"}, "transfer.ctc_weight"),
        ({"mode": "full", "ctc_weight": 0.5}, "transfer.ctc_speech"),
    ],
)
def test_impossible_settings_are_named(settings, key):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        TransferConfig(**settings)


@pytest.mark.parametrize("settings", [{"trainable_layers": 1}, {"is_random": True}])
def test_the_encoder_section_must_not_say_what_the_mode_says(tiny_encoder_folder, settings):
    with pytest.raises(ConfigError, match=r"transfer\.mode"):
        open_encoder(EncoderConfig(name=str(tiny_encoder_folder), **settings), TransferConfig(mode="last"), 0)


def test_a_second_task_without_an_output_layer_is_refused(tiny_encoder_folder, transcribed):
    encoder = open_encoder(EncoderConfig(name=str(tiny_encoder_folder), layers=1), TransferConfig(mode="full"), 0)
    with pytest.raises(ConfigError, match=r"transfer\.ctc_weight = 0"):
        open_ctc_task(transcribed, encoder, 2)
