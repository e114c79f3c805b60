"""Training from a typed phrase, end to end, on a tiny encoder: what it writes, what it refuses, how it goes on."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import kws
from kws.audio.io import write_audio
from kws.config import load_config
from kws.data.mix import MADE_WEIGHT
from kws.errors import AudioError, ConfigError
from kws.model.artefact import load_wakeword
from kws.train.wakeword import RECORDED_RATE, WakeWordConfig, resolve_config, slug, train_wakeword

TINY = [
    "pool.num_voices=6", "pool.num_validation_voices=3", "windows.num_positives=24", "windows.num_negatives=40",
    "validation_windows=3", "validation_positives=12", "training.epochs=2", "training.rounds=2",
    "training.batch_size=16", "head.hidden=8",
]  # fmt: skip


@pytest.fixture
def overrides(tiny_encoder_folder):
    return [*TINY, f"encoder.name={json.dumps(str(tiny_encoder_folder))}"]


@pytest.fixture
def recordings(tmp_path):
    rng = np.random.default_rng(0)
    folders = {}
    for name, count in (("positives", 3), ("negatives", 4), ("noise", 3), ("rir", 2)):
        folders[name] = tmp_path / name
        for index in range(count):
            write_audio(folders[name] / f"{index}.wav", (0.1 * rng.standard_normal(24_000)).astype("f4"))
    return folders


def test_it_writes_what_the_detector_needs_and_what_a_person_reads(overrides, tmp_path):
    stages = []
    trained = train_wakeword(
        "Hey, Computer!", tmp_path / "wake", overrides=overrides, progress=lambda stage, *_: stages.append(stage)
    )
    assert {path.name for path in trained.path.iterdir()} == {
        "wakeword.json", "head.safetensors", "CARD.md", "config.toml", "report", "log",
    }  # fmt: skip
    assert {path.name for path in (trained.path / "report").iterdir()} == {"det.png", "scores.png", "report.json"}
    details = load_wakeword(trained.path).details
    assert details["metrics"]["at_threshold"]["hours"] == pytest.approx(3 * 20 / 3600, rel=0.01)
    assert details["metrics"]["target_false_alarms_per_hour"] == WakeWordConfig().false_alarms_per_hour
    assert details["made_from"]["synthetic_voices"] == 6
    assert "hey computer" in (trained.path / "CARD.md").read_text()
    assert kws.load(trained.path).keywords == ["hey computer"]
    assert stages[0].startswith("speaking")
    assert "training" in stages
    assert load_config(WakeWordConfig, tmp_path / "wake" / "config.toml").mix.made_weight is None


@pytest.mark.slow
def test_the_saved_config_reproduces_the_run(overrides, tmp_path):
    """In fresh processes: within one, eSpeak differs by a few samples from call to call."""
    first, second = tmp_path / "first", tmp_path / "second"
    settings = [part for override in overrides for part in ("--set", override)]
    run("train", "jarvis", "--out", first, *settings)
    run("train", "jarvis", "--out", second, "--config", first / "config.toml")
    for name, weight in load_wakeword(first).weights.items():
        np.testing.assert_allclose(weight, load_wakeword(second).weights[name], atol=1e-4)


def run(*arguments):
    subprocess.run([sys.executable, "-m", "kws", *map(str, arguments)], check=True, capture_output=True)


def test_an_interrupted_run_goes_on_to_the_same_result(overrides, tmp_path):
    def stop_in_training(stage, done, total):
        if stage == "training" and done == 1:
            raise KeyboardInterrupt

    stopped, restarted = tmp_path / "stopped", tmp_path / "restarted"
    with pytest.raises(KeyboardInterrupt):
        train_wakeword("jarvis", stopped, overrides=overrides, progress=stop_in_training)
    assert not (stopped / "wakeword.json").exists()
    assert list((stopped / ".work").glob("*.npz"))
    shutil.copytree(stopped, restarted)
    (restarted / ".work/head.ckpt").unlink()  # the same frames, but training begins anew: an unbroken run
    resumed = train_wakeword("jarvis", stopped, overrides=overrides)
    unbroken = train_wakeword("jarvis", restarted, overrides=overrides)
    for name, weight in unbroken.wakeword.weights.items():
        # The bias holds the threshold, set on speech made anew: within one process eSpeak differs by a few samples.
        tolerance = 0.05 if name == "output.bias" else 1e-6
        np.testing.assert_allclose(weight, resumed.wakeword.weights[name], atol=tolerance)
    assert not (stopped / ".work").exists()


def test_recordings_are_used_counted_and_odd_ones_named(overrides, recordings, tmp_path):
    (recordings["negatives"] / "broken.wav").write_bytes(b"not audio")
    write_audio(recordings["positives"] / "silent.wav", np.zeros(16_000, np.float32))
    warnings = []
    trained = train_wakeword("jarvis", tmp_path / "wake", overrides=overrides, warn=warnings.append, **recordings)
    made_from = trained.wakeword.details["made_from"]
    target = trained.wakeword.details["metrics"]["target_false_alarms_per_hour"]
    assert target == RECORDED_RATE * WakeWordConfig().false_alarms_per_hour
    assert made_from["recordings_of_the_phrase"] == 4
    assert made_from["recordings_of_other_speech"] == 4
    assert made_from["recordings_of_noise"] == 3
    assert any("broken.wav" in warning for warning in warnings)
    assert any("silent.wav" in warning for warning in warnings)
    saved = load_config(WakeWordConfig, tmp_path / "wake" / "config.toml")
    assert saved.mix.made_weight == MADE_WEIGHT, "recordings of the phrase come with made noise"


def test_nothing_usable_in_a_folder_is_an_error(overrides, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="empty"):
        train_wakeword("jarvis", tmp_path / "wake", positives=tmp_path / "empty", overrides=overrides)


def test_impossible_settings_are_refused_before_any_work(tmp_path):
    for bad in (["windows.num_positives=0"], ["head.kind=lstm"], ["trigger.treshold=0.4"], ["loss.tail_s=-1"]):
        with pytest.raises(ConfigError, match=bad[0].split("=")[0].split(".")[0]):
            train_wakeword("jarvis", tmp_path / "wake", overrides=bad)
    with pytest.raises(ConfigError, match="no words"):
        train_wakeword("!?", tmp_path / "wake")
    assert not (tmp_path / "wake").exists()


def test_the_config_survives_toml(tmp_path):
    from kws.config import to_toml

    config = resolve_config("hey computer", overrides=["seed=3", "head.kind=gru", "voices.rate=[0.8, 1.2]"])
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(WakeWordConfig, tmp_path / "config.toml") == config


def test_folder_names():
    assert slug("Hey, Computer!") == "hey_computer"
