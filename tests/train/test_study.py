"""The transfer study end to end on tones: splits, resuming, and a case of negative transfer that it must catch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kws.audio.io import write_audio
from kws.config import load_config
from kws.errors import ConfigError
from kws.evaluate.learning_curves import Study, verdict
from kws.frames import SAMPLE_RATE
from kws.train.transfer.material import OTHER, SILENCE, UNKNOWN, read_study
from kws.train.transfer.study import CELLS_FILE, StudyRun
from kws.train.transfer.study_config import StudyConfig, measured_epochs
from kws.train.transfer.study_windows import Windows

DURATION_S = 0.4
RECIPES = Path(__file__).parents[2] / "recipes"


def tone(hz, rng, duration_s=DURATION_S):
    time_s = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    wave = 0.3 * np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * time_s)
    return (wave + 0.01 * rng.standard_normal(len(wave))).astype(np.float32)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Returns a folder with a sub-folder for low tones and one for high ones."""
    folder, rng = tmp_path_factory.mktemp("tones") / "tones", np.random.default_rng(0)
    for name, hz in (("low", 300), ("high", 2500)):
        for index in range(24):
            write_audio(folder / name / f"{index:02}.wav", tone(hz, rng))
    return folder


def config(folder, **settings):
    quick = {"seeds": 1, "epochs": 2, "epoch_windows": 16, "variants": 1, "window_s": DURATION_S, "sizes": (4, 0)}
    quick |= {"modes": ("frozen", "small")} | settings
    text = [f"encoder.name={json.dumps(str(folder))}", "head.hidden=8", "head.kernel=3", "transfer.last_layers=1"]
    return load_config(StudyConfig, StudyConfig(**quick), [*text, "transfer.batch_size=8"])


def study_of(settings, material, out):
    windows = Windows(material, settings.window_s, settings.variants, settings.test_snr_db, settings.seed)
    return StudyRun(settings, windows, out)


def test_a_labelled_folder_is_split_and_no_file_crosses(labelled):
    material = read_study(labelled)
    assert material.labels == ("high", "low")
    assert not {piece.path for piece in material.train} & {piece.path for piece in material.test}
    assert len(material.test) >= 0.25 * 48
    assert set(material.truth) == {0, 1}
    small, large = (material.subset(size, seed=1) for size in (3, 9))
    assert [len(part) for part in small] == [3, 3]
    assert all(set(few) <= set(many) for few, many in zip(small, large))


def test_a_word_needs_negatives_and_gets_windows_from_them(labelled):
    with pytest.raises(ConfigError, match="--negatives"):
        read_study(labelled / "low")
    material = read_study(labelled / "low", [labelled / "high"], num_negatives=20, max_test=5)
    assert material.labels == ("low", OTHER)
    assert np.bincount([piece.label for piece in material.train]).tolist()[1] == 20
    assert np.bincount(material.truth).tolist() == [5, 10]
    assert [len(part) for part in material.subset(4, 0)] == [4, 20]  # negatives are not counted
    learned = {piece.path for piece in material.train if piece.label}
    assert not learned & {piece.path for piece in material.test}


def test_speech_commands_layout(tmp_path):
    rng = np.random.default_rng(0)
    for word in ("yes", "no", "cat"):
        for speaker in ("aa", "bb", "cc"):
            write_audio(tmp_path / word / f"{speaker}_nohash_0.wav", tone(300, rng))
    write_audio(tmp_path / "_background_noise_" / "hum.wav", tone(50, rng, 4.0))
    (tmp_path / "testing_list.txt").write_text("yes/cc_nohash_0.wav\nno/cc_nohash_0.wav\ncat/cc_nohash_0.wav\n")
    (tmp_path / "validation_list.txt").write_text("yes/bb_nohash_0.wav\n")
    material = read_study(tmp_path, keywords=("yes", "no"))
    assert material.labels == (SILENCE, UNKNOWN, "no", "yes")
    files = [[f"{p.path.parent.name}/{p.path.name[:2]}" for p in part] for part in (material.train, material.test)]
    assert "yes/bb" not in files[0] + files[1]
    assert {"yes/cc", "no/cc", "cat/cc"} <= set(files[1])
    assert not {name for name in files[0] if name.endswith("cc")}
    places = [[p.position for p in part if p.position is not None] for part in (material.train, material.test)]
    assert max(places[0]) < 0.5 <= min(places[1])  # no noise is tested that was learned
    with pytest.raises(ConfigError, match="'up'"):
        read_study(tmp_path, keywords=("yes", "up"))


def test_what_is_drawn_does_not_depend_on_the_process(labelled):
    code = (
        "import sys; from pathlib import Path; from kws.train.transfer.material import read_study; "
        "print(read_study(Path(sys.argv[1]), max_test=3).fingerprint)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(labelled)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_manifests_keep_their_split(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("enrol", "test"):
        write_audio(tmp_path / f"{split}.wav", tone(300, rng))
        lines = [{"audio_filepath": f"{split}.wav", "label": label} for label in ("a", "b")]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    material = read_study(tmp_path)
    assert {piece.path.name for piece in material.train} == {"enrol.wav"}
    assert {piece.path.name for piece in material.test} == {"test.wav"}


def test_windows_are_as_long_as_asked_the_same_each_time_and_hold_the_loudest_part(tmp_path):
    waveform = np.zeros(2 * SAMPLE_RATE, np.float32)
    waveform[20_000:22_000] = 0.5
    for word in ("one", "two"):
        for name in "abcd":
            write_audio(tmp_path / word / f"{name}.wav", waveform)
    material = read_study(tmp_path)
    first, again = (Windows(material, 0.5, 2, None, 0) for _ in range(2))
    keys = [(0, 0), (0, 1), (1, 0)]
    assert first.train(keys).shape == (3, SAMPLE_RATE // 2)
    np.testing.assert_array_equal(first.train(keys), again.train(keys))
    assert not np.array_equal(*first.train(keys)[:2])
    assert (np.abs(first.test()) > 0.4).sum(1) == pytest.approx(2000, abs=2)
    noisy = Windows(material, 0.5, 1, 10.0, 0).test()
    noise = noisy - first.test()
    ratio_db = 10 * np.log10((first.test() ** 2).mean() / (noise**2).mean())
    assert ratio_db == pytest.approx(10, abs=0.1)


def test_cells_are_kept_and_only_missing_ones_are_trained(tiny_encoder_folder, labelled, tmp_path):
    settings, material = config(tiny_encoder_folder, modes=("frozen", "last", "small")), read_study(labelled)
    stages = []

    def stop(stage, done, total):
        stages.append(stage)
        if stage == "study" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study_of(settings, material, tmp_path).run(stop)
    assert len((tmp_path / CELLS_FILE).read_text().splitlines()) == 2
    cells = study_of(settings, material, tmp_path).run()
    assert [(cell.mode, cell.size) for cell in cells] == [
        (mode, size) for size in (4, material.num_largest) for mode in ("frozen", "last", "small")
    ]
    whole = study_of(settings, material, tmp_path / "whole").run()
    assert [cell.predicted for cell in cells] == [cell.predicted for cell in whole]
    more = study_of(config(tiny_encoder_folder, modes=("frozen", "last", "small"), seeds=2), material, tmp_path)
    assert len(more.finished()) == 6  # more seeds are added to what is there
    longer = config(tiny_encoder_folder, modes=("frozen", "last", "small"), epochs=3)
    assert study_of(longer, material, tmp_path).finished() == []  # other training is another result


def test_other_weights_make_other_cells_except_from_nothing(tiny_encoder_folder, labelled, tmp_path):
    material, settings = (
        read_study(labelled),
        config(tiny_encoder_folder, modes=("frozen", "random", "small"), sizes=(4,)),
    )
    folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")
    same = config(folder, modes=("frozen", "random", "small"), sizes=(4,))
    study_of(same, material, tmp_path / "study").run()
    weights = load_file(folder / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, folder / "model.safetensors")
    assert [cell.mode for cell in study_of(same, material, tmp_path / "study").finished()] == ["random", "small"]
    assert settings.encoder.name != same.encoder.name


def test_a_budget_of_minutes_begins_no_further_run(tiny_encoder_folder, labelled, tmp_path):
    run = study_of(config(tiny_encoder_folder, modes=("small",)), read_study(labelled), tmp_path)
    assert len(run.run(minutes=1e-9)) == 0
    assert len(run.run()) == 2


def test_a_damaged_line_is_named(tiny_encoder_folder, labelled, tmp_path):
    run = study_of(config(tiny_encoder_folder), read_study(labelled), tmp_path)
    (tmp_path / CELLS_FILE).write_text('{"mode": 3}\n')
    with pytest.raises(ConfigError, match="line 1"):
        run.finished()


def test_negative_transfer_is_caught(tiny_encoder_folder, labelled, tmp_path):
    """An encoder that was trained against hearing anything: its frames are all alike, and only "small" can learn."""
    deaf = shutil.copytree(tiny_encoder_folder, tmp_path / "deaf")
    weights = load_file(deaf / "model.safetensors")
    for name in weights:
        if name.startswith("wav2vec2.feature_projection.projection"):
            weights[name] = torch.zeros_like(weights[name])
    save_file(weights, deaf / "model.safetensors")
    settings = config(deaf, seeds=2, epochs=8, epoch_windows=64, sizes=(0,))
    material = read_study(labelled)
    study = Study(study_of(settings, material, tmp_path / "study").run(), material.truth, material.labels)
    (sentence,) = verdict(study)
    assert "NEGATIVE TRANSFER" in sentence
    assert study.over_sizes("frozen").end == pytest.approx(0.5)
    assert study.over_sizes("small").end > 0.9


def test_epochs_to_measure_thin_out():
    assert measured_epochs(1) == [1]
    assert measured_epochs(16) == [1, 2, 4, 8, 16]
    assert measured_epochs(20) == [1, 2, 4, 8, 16, 20]


@pytest.mark.parametrize(
    ("settings", "key"), [({"modes": ("thawed",)}, "modes"), ({"sizes": (-1,)}, "sizes"), ({"watts": 0.0}, "watts")]
)
def test_impossible_settings_are_named(settings, key):
    with pytest.raises(ConfigError, match=key):
        StudyConfig(**settings)


@pytest.mark.parametrize("recipe", ["transfer", "speech-commands"])
def test_recipe_configs_are_valid_and_run_for_two_steps(recipe, tiny_encoder_folder, labelled, tmp_path):
    path = RECIPES / recipe / "config.toml"
    name = f"encoder.name={json.dumps(str(tiny_encoder_folder))}"
    short = ["epochs=1", "epoch_windows=32", "window_s=0.4", "seeds=1", "sizes=[4]", "keywords=[]"]
    settings = load_config(StudyConfig, path, [name, *short])
    assert set(load_config(StudyConfig, path).modes) == {"frozen", "last", "full", "random", "small"}
    cells = study_of(settings, read_study(labelled), tmp_path).run()
    assert [cell.mode for cell in cells] == ["frozen", "last", "full", "random", "small"]
    assert all(np.isfinite(cell.scores).all() for cell in cells)
