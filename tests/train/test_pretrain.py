"""Pretraining: it learns, it resumes with the same losses, and its measures are right on hand-made cases."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kws.config import load_config, to_toml
from kws.data.alignment import (
    BLANK,
    NUM_CLASSES,
    PHONES,
    STEP,
    PhoneAligner,
    PhoneSegment,
    class_of,
    frame_labels,
    step_labels,
    words_of,
)
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY
from kws.model.pretrained import load_encoder
from kws.model.streaming import StreamingConfig, StreamingEncoder
from kws.train.losses import ctc_loss
from kws.train.phone_error import edit_distance, greedy_phones
from kws.train.phone_model import MaskingConfig, PhoneModel, add_dropout
from kws.train.pretrain import Pretraining, pretrain
from kws.train.pretrain_config import PretrainConfig
from kws.train.speech_batches import BatchConfig, SpeechBatch, SpeechBatches, play_at
from kws.train.speech_cache import SpeechCache
from kws.train.spoil import SpoilConfig, Spoiler, make_room, mix, move_formants, mu_law

TONES_HZ = {1: 300.0, 2: 900.0, 3: 2200.0}


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, random, streaming encoder."""
    folder = tmp_path_factory.mktemp("tiny")
    values = {
        "conv_dim": [8] * 7,
        "conv_kernel": list(WAV2VEC2_GEOMETRY.kernels),
        "conv_stride": list(WAV2VEC2_GEOMETRY.strides),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "layer_norm_eps": 1e-5,
        "streaming": {"block_frames": 4, "left_context_frames": 16},
    }
    torch.manual_seed(0)
    encoder = StreamingEncoder(StreamingConfig.from_json(values))
    weights = {f"wav2vec2.{name}": value for name, value in encoder.state_dict().items()}
    weights["lm_head.weight"], weights["lm_head.bias"] = torch.zeros(NUM_CLASSES, 16), torch.zeros(NUM_CLASSES)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(values))
    labels = ["<blank>", *PHONES, "|"]
    (folder / "vocab.json").write_text(json.dumps({label: index for index, label in enumerate(labels)}))
    return folder


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one prepared corpus, in which three tones stand for three phones."""
    root = tmp_path_factory.mktemp("cache")
    rng = np.random.default_rng(0)
    pieces, labels, rows, start = [], [], [], 0
    for _ in range(8):
        classes = rng.integers(0, 4, size=20)
        steps = np.repeat(classes, 10).astype(np.uint8)  # a tenth of a second each
        times = np.arange(len(steps) * STEP) / SAMPLE_RATE
        tones = sum(
            np.sin(2 * np.pi * frequency * times) * np.repeat(steps == label, STEP)
            for label, frequency in TONES_HZ.items()
        )
        pieces.append((8000 * tones).astype(np.int16))
        labels.append(steps)
        phones = " ".join(PHONES[label - 1] for label in classes if label)
        rows.append({"start": start, "length": len(times), "label_start": start // STEP, "num_labels": len(steps)})
        rows[-1]["phones"] = phones
        start += len(times)
    folder = root / "tones"
    folder.mkdir()
    np.save(folder / "audio.npy", np.concatenate(pieces))
    np.save(folder / "labels.npy", np.concatenate(labels))
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def config(encoder_folder: Path, cache_folder: Path) -> PretrainConfig:
    return PretrainConfig(
        initial=str(encoder_folder),
        cache=str(cache_folder),
        speech=("tones",),
        shares=(1.0,),
        measure=("tones",),
        bf16=False,
        max_steps=6,
        show_every=2,
        learning_rate=3e-3,
        warmup_steps=2,
        ctc_weight=0.3,
        ctc_from=0.5,
        batches=BatchConfig(batch_size=4, crop_frames=40, hard_from_step=4),
        masking=MaskingConfig(from_progress=0.5, span_channels=4),
    )


def _losses(config: PretrainConfig, out: Path, first: int, last: int, resume: bool) -> list[float]:
    run = Pretraining(config, out)
    if resume:
        run.load()
    cache = SpeechCache(Path(config.cache) / "tones")
    batches = iter(
        SpeechBatches([(cache, 1.0)], run.model.geometry, config.batches, Spoiler(config.spoil), None, run.step)
    )
    losses = [run.train_step(next(batches))[0] for _ in range(first, last)]
    run.save()
    return losses


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_killed_run_resumes_with_the_same_losses(config: PretrainConfig, tmp_path: Path, optimiser: str) -> None:
    config = dataclasses.replace(config, optimiser=optimiser, dropout=0.2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = _losses(config, tmp_path / "whole", 0, 6, resume=False)
    parts = _losses(config, tmp_path / "parts", 0, 3, resume=False)
    parts += _losses(config, tmp_path / "parts", 3, 6, resume=True)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_training_learns_tones(config: PretrainConfig, tmp_path: Path) -> None:
    easy = dataclasses.replace(
        config,
        max_steps=120,
        learning_rate=1e-2,
        spoiled=False,
        ctc_weight=0.0,
        average_decay=0.0,
        masking=MaskingConfig(),
    )
    before = Pretraining(easy, tmp_path).measure()[0]
    after = pretrain(easy, tmp_path)[0]
    assert after.frame_accuracy > before.frame_accuracy + 0.3
    assert after.num_phones == before.num_phones > 0


def test_a_run_writes_an_encoder_that_loads_and_logs_its_scores(config: PretrainConfig, tmp_path: Path) -> None:
    scores = pretrain(config, tmp_path)
    encoder = load_encoder(str(tmp_path / "encoder"))
    assert encoder.output_layer is not None
    assert len(encoder.output_layer.labels) == NUM_CLASSES
    assert load_file(tmp_path / "encoder" / "output_layer.safetensors")["lm_head.weight"].dtype == torch.float16
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 0
    assert rows[-1]["step"] == 6
    assert rows[-1]["phone_error_rate"] == pytest.approx(scores[0].phone_error_rate, abs=1e-4)
    assert not (tmp_path / "checkpoint.pt.partial").exists()


def test_frozen_convolutions_stay_while_the_rest_learns(config: PretrainConfig, tmp_path: Path) -> None:
    before = load_encoder(config.initial).state_dict()
    pretrain(dataclasses.replace(config, frozen_convolutions=True), tmp_path)
    after = load_encoder(str(tmp_path / "encoder")).state_dict()
    moved = {name: float((value - after[name]).abs().max()) for name, value in before.items()}
    frozen = [name for name in moved if name.startswith(("feature_extractor.", "feature_projection."))]
    assert frozen
    assert max(moved.pop(name) for name in frozen) < 1e-3 < max(moved.values())


def test_an_export_starts_another_run_with_both_output_layers(encoder_folder: Path, tmp_path: Path) -> None:
    model = PhoneModel.from_folder(encoder_folder)
    torch.nn.init.normal_(model.frame_output.weight, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(model.ctc_output.weight, generator=torch.Generator().manual_seed(2))
    model.save(tmp_path, has_ctc=True)
    again = PhoneModel.from_folder(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, atol=2e-3), name
    assert torch.allclose(load_encoder(str(tmp_path)).output_layer.weight, model.ctc_output.weight, atol=2e-3)
    model.save(tmp_path, has_ctc=False)
    assert torch.allclose(load_encoder(str(tmp_path)).output_layer.weight, model.frame_output.weight, atol=2e-3)


def test_resuming_nothing_names_the_file(config: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.pt"):
        pretrain(config, tmp_path, resume=True)


def test_missing_speech_names_the_remedy(config: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prepare\.py"):
        pretrain(dataclasses.replace(config, speech=("nowhere",)), tmp_path)


def test_batches_are_a_function_of_their_step(config: PretrainConfig, cache_folder: Path) -> None:
    cache = SpeechCache(cache_folder / "tones")
    batches = SpeechBatches([(cache, 1.0)], WAV2VEC2_GEOMETRY, config.batches, Spoiler(SpoilConfig()))
    again, other = batches.batch(5), batches.batch(6)
    assert torch.equal(batches.batch(5).waveforms, again.waveforms)
    assert not torch.equal(again.waveforms, other.waveforms)
    assert again.waveforms.shape == (4, WAV2VEC2_GEOMETRY.num_samples(40))
    assert again.labels.shape == (4, 40)


def test_batches_come_in_order_whatever_prepares_them(config: PretrainConfig, cache_folder: Path) -> None:
    cache = SpeechCache(cache_folder / "tones")
    batches = SpeechBatches([(cache, 1.0)], WAV2VEC2_GEOMETRY, config.batches, first_step=3)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=2)
    for step, batch in zip(range(3, 8), loader):
        assert torch.equal(batch.waveforms, batches.batch(step).waveforms)


def test_two_processes_train_as_one_on_both_their_batches(config: PretrainConfig, tmp_path: Path) -> None:
    fixed = dataclasses.replace(config.batches, block_frames=(8, 8), left_context_frames=(48, 48))
    config = dataclasses.replace(
        config, batches=fixed, max_steps=3, spoiled=False, ctc_from=0.0, masking=MaskingConfig()
    )
    (tmp_path / "config.toml").write_text(to_toml(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "kws.train.pretrain", "--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*command, "--threads", "1"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    together = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    alone = Pretraining(config, tmp_path)
    cache = SpeechCache(Path(config.cache) / "tones")
    parts = [SpeechBatches([(cache, 1.0)], alone.model.geometry, fixed, process_index=i) for i in (0, 1)]
    for step in range(3):
        first, second = (part.batch(step) for part in parts)
        waveforms, labels = torch.cat([first.waveforms, second.waveforms]), torch.cat([first.labels, second.labels])
        alone.train_step(SpeechBatch(waveforms, labels, 8, 48))
    assert together["step"] == alone.step == 3
    for name, value in alone.model.state_dict().items():
        assert torch.allclose(together["model"][name], value, atol=1e-4), name
    resumed = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3, "it was at its end"


def test_pauses_cut_speech_where_it_is_silent(cache_folder: Path) -> None:
    cache = SpeechCache(cache_folder / "tones")
    settings = BatchConfig(batch_size=16, crop_frames=200, speed_probability=0)
    dense, paused = (
        SpeechBatches([(cache, 1.0)], WAV2VEC2_GEOMETRY, dataclasses.replace(settings, pause_probability=share)).batch(
            0
        )
        for share in (0.0, 1.0)
    )
    assert (paused.labels == BLANK).float().mean() > (dense.labels == BLANK).float().mean() + 0.1
    assert (paused.labels[:, :3] == BLANK).float().mean() > 0.7  # nearly all begin with a pause
    frames = paused.waveforms.unfold(1, WAV2VEC2_GEOMETRY.receptive_field, WAV2VEC2_GEOMETRY.hop)
    is_sounding = frames.abs().amax(-1) > 0.02
    assert (is_sounding == (paused.labels != BLANK)).float().mean() > 0.9


def test_labels_follow_the_speed(cache_folder: Path) -> None:
    cache = SpeechCache(cache_folder / "tones")
    settings = BatchConfig(batch_size=8, crop_frames=60, speeds=(0.8, 1.25), speed_probability=1.0)
    batch = SpeechBatches([(cache, 1.0)], WAV2VEC2_GEOMETRY, settings).batch(0)
    hop, field = WAV2VEC2_GEOMETRY.hop, WAV2VEC2_GEOMETRY.receptive_field
    frames = batch.waveforms.unfold(1, field, hop)  # (batch, num_frames, field)
    is_sounding = frames[:, :, field // 4 : -field // 4].abs().amax(-1) > 0.02
    assert (is_sounding == (batch.labels != BLANK)).float().mean() > 0.9


def test_frame_labels_are_those_at_the_centre() -> None:
    labels = step_labels([PhoneSegment(7, 2, 3), PhoneSegment(9, 5, 1)], num_samples=1600)
    assert labels.tolist() == [0, 0, 7, 7, 7, 9, 0, 0, 0, 0]
    # the centres of frames 0..4 are samples 200, 520, 840, 1160, 1480: steps 1, 3, 5, 7, 9
    assert frame_labels(labels, 5, WAV2VEC2_GEOMETRY).tolist() == [0, 7, 9, 0, 0]
    assert frame_labels(labels, 2, WAV2VEC2_GEOMETRY, offset=320).tolist() == [7, 9]
    assert frame_labels(labels, 9, WAV2VEC2_GEOMETRY)[-1] == BLANK


def test_words_and_classes() -> None:
    assert words_of("Author, of the DANGER-trail; Philip's.") == ["author", "of", "the", "danger", "trail", "philip's"]
    assert [class_of(phone) for phone in ("AA", "zh", "IY1", "SIL")] == [1, 39, 18, 0]


def test_edit_distance_on_hand_counted_cases() -> None:
    assert edit_distance([1, 2, 3], [1, 2, 3]) == 0
    assert edit_distance([1, 2, 3], [1, 3]) == 1
    assert edit_distance([1, 2], [4, 1, 5, 2, 6]) == 3
    assert edit_distance([1, 2, 3, 4], [2, 1, 3, 5]) == 3
    assert edit_distance([], [1, 2]) == 2
    assert edit_distance([1, 2], []) == 2


def test_greedy_merges_repeats_and_smoothing_removes_flicker() -> None:
    best = np.array([0, 5, 5, 7, 5, 5, 0, 40, 5])
    log_probs = np.full((9, NUM_CLASSES), -9.0)
    log_probs[np.arange(9), best] = -0.5
    log_probs[3, 5] = -1.0
    assert greedy_phones(log_probs) == [5, 7, 5, 5]
    assert greedy_phones(log_probs, smoothing=3) == [5, 5]


def test_ctc_loss_is_small_where_the_frames_are_right() -> None:
    labels = torch.tensor([[0, 3, 3, 3, 0, 0, 8, 8, 4, 0]])
    right = torch.nn.functional.one_hot(labels, NUM_CLASSES).float() * 12
    assert ctc_loss(right, labels) < 0.05 < ctc_loss(torch.zeros_like(right), labels)


def test_mix_gives_the_ratio_asked_for() -> None:
    rng = np.random.default_rng(0)
    speech, noise = rng.standard_normal((2, 8000)).astype(np.float32)
    added = mix(speech, noise, snr_db=7.0) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(7.0, abs=0.01)


def test_moving_formants_by_nothing_changes_nothing() -> None:
    waveform = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    assert np.abs(move_formants(waveform, 1.0) - waveform).max() < 1e-4
    assert np.abs(move_formants(waveform, 1.1) - waveform).max() > 0.1


def test_spoiling_keeps_length_and_range() -> None:
    rng = np.random.default_rng(1)
    spoiler = Spoiler(SpoilConfig(), noises=[rng.standard_normal(3000).astype(np.float32)], rooms=[make_room(rng)])
    waveform = rng.standard_normal(16_000).astype(np.float32)
    for _ in range(20):
        spoilt = spoiler.spoil(waveform, rng, lambda: np.ones(16_000, np.float32))
        assert spoilt.shape == waveform.shape
        assert spoilt.dtype == np.float32
        assert np.abs(spoilt).max() <= 1.0


def test_a_faster_crop_is_shorter_sound() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    fast = play_at(tone, 1.25, 8000)
    assert np.abs(np.fft.rfft(fast)).argmax() * SAMPLE_RATE / len(fast) == pytest.approx(625, abs=3)
    assert np.abs(mu_law(tone) - tone).max() < 0.05


def test_masking_hides_only_in_training_and_when_due(encoder_folder: Path) -> None:
    from kws.train.phone_model import Masking

    model = PhoneModel.from_folder(encoder_folder)
    masking = Masking(MaskingConfig(from_progress=0.5, spans=4, span_frames=20, span_channels=4))
    masking.attach(model)
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    frames = model.eval().encoder(waveform)
    model.train()
    masking.begin_step(0.4, 3)
    assert torch.equal(model.encoder(waveform), frames)
    masking.begin_step(0.6, 3)
    assert not torch.equal(model.encoder(waveform), frames)
    assert torch.equal(model.eval().encoder(waveform), frames)


def test_dropout_is_for_training_only(encoder_folder: Path) -> None:
    model = PhoneModel.from_folder(encoder_folder)
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    frames = model.eval().encoder(waveform)
    add_dropout(model.encoder, 0.5)
    assert torch.equal(model.encoder(waveform), frames)
    model.train()
    assert not torch.equal(model.encoder(waveform), frames)


@pytest.mark.parametrize(
    "change", [{"shares": (1.0, 2.0)}, {"learning_rate": 0.0}, {"minutes": -1.0}, {"max_steps": 0}, {"dropout": 1.0}]
)
def test_impossible_settings_are_refused(config: PretrainConfig, change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        dataclasses.replace(config, **change)


def test_the_recipe_runs_two_steps(encoder_folder: Path, cache_folder: Path, tmp_path: Path) -> None:
    recipe = Path(__file__).parents[2] / "recipes" / "pretrain" / "config.toml"
    assert load_config(PretrainConfig, recipe).minutes > 0
    here = [f"initial='{encoder_folder}'", f"cache='{cache_folder}'", "speech=['tones']", "shares=[1]", "noise=''"]
    small = ["measure=['tones']", "rooms=''", "compiled=false", "max_steps=2", "batches.batch_size=2"]
    scores = pretrain(load_config(PretrainConfig, recipe, here + small), tmp_path)
    assert [score.corpus for score in scores] == ["tones"]
    assert load_config(PretrainConfig, tmp_path / "config.toml").max_steps == 2


def test_what_was_not_said_does_not_align() -> None:
    pytest.importorskip("pocketsphinx")
    aligner = PhoneAligner()
    noise = (np.random.default_rng(0).standard_normal(SAMPLE_RATE) * 300).astype(np.int16)
    assert aligner.align(noise, "") is None
    assert aligner.align(noise, "xyzzyx") is None
    assert aligner.align(noise[:800], "an utterance that is far longer than its audio") is None


def test_an_unknown_word_takes_the_pronunciation_given() -> None:
    pytest.importorskip("pocketsphinx")
    asked: list[str] = []

    def pronounce(word: str) -> list[str]:
        asked.append(word)
        return ["S", "IH", "L", "K"]

    PhoneAligner(pronounce).align(np.zeros(SAMPLE_RATE, np.int16), "hello xyzzyx")
    assert asked == ["xyzzyx"]


def test_realigning_takes_the_pronunciation_that_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pocketsphinx")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes" / "pretrain"))
    realign = importlib.import_module("realign")
    said = [class_of(phone) for phone in ("R", "IY", "D")]
    path = np.repeat([BLANK, *said, BLANK], (4, 3, 6, 2, 5))
    log_probs = np.log(np.full((len(path), NUM_CLASSES), 0.1 / (NUM_CLASSES - 1)))
    log_probs[np.arange(len(path)), path] = np.log(0.9)
    known = [class_of(phone) for phone in ("R", "EH", "D")]
    phones, found = realign.best_pronunciation(log_probs.astype(np.float32), known, PhoneAligner(), "read")
    assert phones == said
    np.testing.assert_array_equal(found, path)
    labels = realign.labels_of(found, 2 * len(path), WAV2VEC2_GEOMETRY)
    np.testing.assert_array_equal(frame_labels(labels, len(path), WAV2VEC2_GEOMETRY), path)
    assert realign.align(log_probs[:2].astype(np.float32), said) == (None, -np.inf), "too short for three phones"


def test_averaging_mixes_all_but_the_convolutions(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes" / "pretrain"))
    folders = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        PhoneModel.from_folder(encoder_folder, is_random=True).save(folder, has_ctc=True)
    first, second = (PhoneModel.from_folder(folder).state_dict() for folder in folders)
    mean = importlib.import_module("average").averaged(folders, [1.0, 3.0]).state_dict()
    for name, value in mean.items():
        is_convolution = name.startswith(("encoder.feature_extractor.", "encoder.feature_projection."))
        expected = second[name] if is_convolution else 0.25 * first[name] + 0.75 * second[name]
        assert torch.allclose(value, expected, atol=1e-6), name


def test_an_untrained_encoder_of_another_shape_begins_with_gabor_filters(
    encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes" / "pretrain"))
    shape = importlib.import_module("shape")
    changes = {"hidden_size": 24, "intermediate_size": 40}
    plain = shape.write_untrained(tmp_path / "plain", str(encoder_folder), changes, is_gabor=False, seed=0)
    shape.write_untrained(tmp_path / "gabor", str(encoder_folder), changes, is_gabor=True, seed=0)
    before, model = (PhoneModel.from_folder(tmp_path / name) for name in ("plain", "gabor"))
    assert model.encoder.dim == 24
    sizes = [
        float(each.encoder.get_parameter("feature_extractor.conv_layers.0.conv.weight").norm(dim=2).mean().detach())
        for each in (before, model)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-2)
    name = "encoder.layers.0.attention.q_proj.weight"
    assert torch.allclose(model.encoder.state_dict()[name], plain.state_dict()[name], atol=1e-3), "else as drawn"
    with pytest.raises(ConfigError, match="hidden_sise"):
        shape.write_untrained(tmp_path / "odd", str(encoder_folder), {"hidden_sise": 24}, is_gabor=False, seed=0)


def test_gabor_filters_hear_their_own_frequencies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "recipes" / "pretrain"))
    shape = importlib.import_module("shape")
    weight = torch.randn(16, 1, 64)
    shape.start_as_gabor(weight)
    loudest_hz = np.abs(np.fft.rfft(weight[:, 0].numpy(), 4096)).argmax(1) * SAMPLE_RATE / 4096
    centres_hz = librosa.mel_frequencies(8, fmin=shape.LOWEST_HZ, fmax=shape.HIGHEST_HZ)
    assert np.allclose(loudest_hz[:8][1:], centres_hz[1:], rtol=0.05), "the lowest is a bump"
