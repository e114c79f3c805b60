"""A wake word with an encoder of its own: trained, kept in the artefact, run from wherever that is moved to."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import kws
from kws.cli import app
from kws.errors import ArtefactError, ConfigError
from kws.model.artefact import OWN_ENCODER, load_wakeword
from kws.model.files import sha256_of
from kws.train.wakeword import train_wakeword

TINY = [
    "pool.num_voices=4", "pool.num_validation_voices=2", "windows.num_positives=8", "windows.num_negatives=8",
    "validation_windows=2", "validation_positives=4", "head.hidden=8", "transfer.steps=3", "transfer.batch_size=4",
    "transfer.last_layers=1", "training.epochs=1", "training.rounds=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def overrides(tiny_encoder_folder):
    return [*TINY, f"encoder.name={json.dumps(str(tiny_encoder_folder))}"]


@pytest.fixture(scope="module")
def trained(overrides, tmp_path_factory):
    """Returns the folder of a wake word whose last layer `kws train` trained; don't change it."""
    folder = tmp_path_factory.mktemp("fine") / "lumos"
    settings = [part for value in [*overrides, "transfer.mode=last"] for part in ("--set", value)]
    result = CliRunner().invoke(app, ["train", "lumos", "--out", str(folder), *settings])
    assert result.exit_code == 0, result.output
    return folder


def test_the_artefact_holds_the_encoder_and_pins_it(trained, tiny_encoder_folder):
    metadata = json.loads((trained / "wakeword.json").read_text())
    assert metadata["encoder"]["name"] == OWN_ENCODER
    assert metadata["encoder_sha256"] == sha256_of(trained / "encoder" / "model.safetensors")
    tuned, base = (load_file(folder / "model.safetensors") for folder in (trained / "encoder", tiny_encoder_folder))
    differ = {name for name in tuned if not torch.equal(tuned[name], base[name])}
    assert differ
    assert all(name.startswith("wav2vec2.encoder.layers.1.") for name in differ)
    assert {value.dtype for value in tuned.values()} == {torch.float16}
    assert not (trained / "encoder" / "vocab.json").exists()  # the old output layer fits these frames no more
    assert {path.name for path in trained.iterdir()} == {
        "wakeword.json", "head.safetensors", "CARD.md", "config.toml", "report", "log", "encoder",
    }  # fmt: skip


def test_it_runs_wherever_it_is_moved_to_with_torch_and_without(trained, tmp_path, noise):
    moved = shutil.copytree(trained, tmp_path / "elsewhere")
    expected = kws.load(moved, backend="torch").scores(noise)
    assert expected.shape[1] == 1
    assert (moved / "encoder" / "step.onnx").is_file()
    np.testing.assert_allclose(kws.load(moved, backend="onnx").scores(noise), expected, atol=1e-4)
    again = load_wakeword(moved).save(tmp_path / "saved")
    np.testing.assert_allclose(kws.load(again).scores(noise), expected, atol=1e-4)


def test_other_weights_a_missing_encoder_and_a_zip_are_refused(trained, tmp_path):
    changed = shutil.copytree(trained, tmp_path / "changed")
    weights = load_file(changed / "encoder" / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, changed / "encoder" / "model.safetensors")
    with pytest.raises(ArtefactError, match="another version of the encoder"):
        kws.load(changed)
    shutil.rmtree(changed / "encoder")
    with pytest.raises(ArtefactError, match="lacks the folder 'encoder'"):
        load_wakeword(changed)
    with pytest.raises(ArtefactError, match="name a folder"):
        load_wakeword(trained).save(tmp_path / "zipped.kws")


def test_an_interrupted_run_goes_on(overrides, tmp_path, monkeypatch):
    monkeypatch.setattr("kws.train.transfer.fine_tuning.STEPS_A_CHECKPOINT", 1)

    def stop(stage, done, total):
        if stage == "training" and done == 2:
            raise KeyboardInterrupt

    settings = [*overrides, "transfer.mode=full", "transfer.unfreeze_share=0"]
    with pytest.raises(KeyboardInterrupt):
        train_wakeword("lumos", tmp_path / "wake", overrides=settings, progress=stop)
    seen = []
    train_wakeword(
        "lumos", tmp_path / "wake", overrides=settings, progress=lambda stage, done, _: seen.append((stage, done))
    )
    assert [done for stage, done in seen if stage == "training"] == [2, 3]


def test_a_small_network_is_trained_from_nothing(overrides, tmp_path, noise):
    trained = train_wakeword("lumos", tmp_path / "wake", overrides=[*overrides, "transfer.mode=small"])
    assert trained.wakeword.dim == 64
    assert json.loads((trained.path / "encoder" / "config.json").read_text())["model_type"] == "kws-small"
    detector = kws.load(trained.path)
    stream = detector.stream()
    streamed = [stream.feed_scores(noise[start : start + 777]) for start in range(0, len(noise), 777)]
    np.testing.assert_allclose(np.concatenate([*streamed, stream.flush_scores()]), detector.scores(noise), atol=1e-4)


def test_the_encoder_section_must_not_say_what_is_trained(overrides, tmp_path):
    with pytest.raises(ConfigError, match=r"transfer\.mode"):
        train_wakeword("lumos", tmp_path / "wake", overrides=[*overrides, "encoder.trainable_layers=1"])


def test_an_encoder_of_transformers_is_trained_too(tmp_path, noise):
    transformers = pytest.importorskip("transformers")
    sizes = {"conv_dim": [16] * 7, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 64, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**sizes)).save_pretrained(tmp_path / "encoder")
    name = f"encoder.name={json.dumps(str(tmp_path / 'encoder'))}"
    settings = [*TINY, name, "encoder.hop_s=0.4", "transfer.mode=last", "validation_window_s=4"]
    trained = train_wakeword("lumos", tmp_path / "wake", overrides=settings)
    assert kws.load(trained.path).scores(noise).shape[1] == 1
