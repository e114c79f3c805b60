"""Real speech from the bank: frames as the encoder would give them, and its part in a training run."""

import json
import shutil

import numpy as np
import pytest
import torch

from kws.data.alignment import STEP, class_of
from kws.errors import ConfigError, EncoderError
from kws.frames import SAMPLE_RATE
from kws.model.bank import BANK_FILE, compress
from kws.model.pretrained import load_encoder
from kws.train.bank_frames import (
    BankConfig,
    BankFrames,
    frames_of_features,
    local_features,
    open_bank,
    open_real_speech,
)
from kws.train.losses import NEGATIVE
from kws.train.spliced import read_inventories
from kws.train.wakeword import train_wakeword

TINY = [
    "pool.num_voices=4", "pool.num_validation_voices=2", "windows.num_positives=12", "windows.num_negatives=16",
    "validation_windows=2", "validation_positives=6", "training.epochs=1", "training.rounds=1", "head.hidden=8",
    "bank.num_windows=10", "bank.num_held_out=3",
]  # fmt: skip


@pytest.fixture
def folder(tiny_encoder_folder, tmp_path):
    """An encoder's folder with a bank of four speakers in it."""
    folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")
    encoder = load_encoder(folder)
    rng = np.random.default_rng(0)
    sounds = [(0.1 * rng.standard_normal(SAMPLE_RATE * 2)).astype("f4") for _ in range(8)]
    features = [local_features(encoder, sound) for sound in sounds]
    labels = [rng.integers(0, 40, len(part)) for part in features]
    speakers = [index // 2 for index in range(8)]
    details = {"licences": ["made-up speech (CC0)"]}
    compress(features, labels, speakers, range(8), 8, encoder.sha256, details).save(folder / BANK_FILE)
    return folder


@pytest.mark.parametrize("layer", ["last", "mix"])
def test_frames_of_features_are_the_encoders_own(tiny_encoder_folder, layer):
    encoder = load_encoder(tiny_encoder_folder, layer=layer)
    waveform = (0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE)).astype("f4")
    frames = frames_of_features(encoder, local_features(encoder, waveform)[None])[0]
    expected = encoder(torch.from_numpy(waveform)[None])[0].numpy()
    np.testing.assert_allclose(frames, expected, atol=2e-3)
    np.testing.assert_array_equal(encoder(torch.from_numpy(waveform)[None])[0].numpy(), expected)


def test_windows_are_negatives_of_one_session_and_depend_on_the_seed_alone(folder):
    encoder = load_encoder(folder)
    speech = BankFrames(open_bank(encoder, BankConfig()), encoder)
    first, again, other = (speech.windows(6, 40, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.frames.shape == (6, 40, encoder.dim)
    assert set(first.end_frames) == {NEGATIVE}
    np.testing.assert_array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)


def test_longer_windows_than_a_session_are_filled(folder):
    encoder = load_encoder(folder)
    speech = BankFrames(open_bank(encoder, BankConfig()), encoder)
    assert speech.windows(2, 500, np.random.default_rng(0)).frames.shape == (2, 500, encoder.dim)


def test_training_takes_the_bank_and_names_its_licences(folder, tmp_path):
    trained = train_wakeword("jarvis", tmp_path / "with", overrides=[*TINY, f"encoder.name={json.dumps(str(folder))}"])
    details = trained.wakeword.details
    assert 1 <= details["made_from"]["speakers_of_the_encoders_bank"] <= 3
    assert details["data_licences"][-1] == "bank of real speech: made-up speech (CC0)"
    assert details["metrics"]["at_threshold"]["hours"] == pytest.approx(5 * 20 / 3600, rel=0.01)
    assert "made-up speech" in (trained.path / "CARD.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("mode", "has_bank"), [("last", True), ("full", False)])
def test_an_encoder_that_learns_keeps_the_bank_only_while_its_convolutions_are_the_banks(
    folder, tmp_path, mode, has_bank
):
    settings = [*TINY, f"encoder.name={json.dumps(str(folder))}", f"transfer.mode={mode}", "transfer.steps=2"]
    settings += ["transfer.last_layers=1", "transfer.batch_size=4"]
    details = train_wakeword("jarvis", tmp_path / mode, overrides=settings).wakeword.details
    assert ("speakers_of_the_encoders_bank" in details["made_from"]) == has_bank
    hours = details["metrics"]["at_threshold"]["hours"]
    assert hours == pytest.approx((5 if has_bank else 2) * 20 / 3600, rel=0.01)


@pytest.fixture
def prepared(tmp_path):
    """A prepared corpus of ten speakers, each of whom said every phone, in the order of "jarvis" too."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "cache" / "corpus-train"
    folder.mkdir(parents=True)
    phones = [class_of(phone) for phone in ("JH", "AA", "R", "V", "IH", "S")]
    said = [np.repeat([0, *phones, 0, *rng.permutation(39) + 1, 0], 10) for _ in range(10)]
    rows = [
        {"start": index * len(steps) * STEP, "length": len(steps) * STEP, "label_start": index * len(steps),
         "num_labels": len(steps), "speaker": str(index)}
        for index, steps in enumerate(said)
    ]  # fmt: skip
    audio = rng.integers(-3000, 3000, sum(map(len, said)) * STEP).astype(np.int16)
    np.save(folder / "audio.npy", audio)
    np.save(folder / "labels.npy", np.concatenate(said).astype(np.uint8))
    (folder / "index.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder.parent


def test_phrases_are_spliced_from_prepared_speech(tiny_encoder_folder, prepared, tmp_path):
    overrides = [*TINY, f"encoder.name={json.dumps(str(tiny_encoder_folder))}", "bank.num_spliced=5"]
    overrides.append(f"bank.speech={json.dumps(str(prepared))}")
    details = train_wakeword("jarvis", tmp_path / "spliced", overrides=overrides).wakeword.details
    assert details["made_from"]["speakers_of_spliced_speech"] == 5
    assert details["made_from"]["held_out_speakers_of_spliced_speech"] == 3
    assert details["made_from"]["synthetic_voices"] == 4
    assert details["data_licences"][-1].startswith("prepared speech")


def test_a_folder_without_prepared_speech_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"labels\.npy.*prepare\.py"):
        read_inventories(tmp_path)


def test_without_a_bank_or_with_it_switched_off_nothing_changes(folder, tiny_encoder_folder):
    for encoder, config in (
        (load_encoder(tiny_encoder_folder), BankConfig()),
        (load_encoder(folder), BankConfig(is_used=False)),
    ):
        real_speech = open_real_speech("jarvis", encoder, config, 0)
        assert real_speech.training is None
        assert real_speech.held_out is None


def test_a_bank_of_other_weights_stops_the_run(folder):
    encoder = load_encoder(folder)
    encoder.sha256 = "0" * 64
    with pytest.raises(EncoderError, match="another encoder"):
        open_real_speech("jarvis", encoder, BankConfig(), 0)


def test_impossible_settings_are_named():
    with pytest.raises(ConfigError, match=r"bank\.held_out_share"):
        BankConfig(held_out_share=1.5)
