"""`kws study`, `kws probe`, `kws saliency` and `kws adapt` from the command line, on tones and a tiny encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import runner

from kws.audio.io import write_audio
from kws.frames import SAMPLE_RATE


@pytest.fixture
def run(capsys):
    return runner(capsys)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("study") / "tones", np.random.default_rng(0)
    for name, hz in (("low", 300), ("high", 2500)):
        for index in range(10):
            time_s = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
            wave = 0.3 * np.sin(2 * np.pi * hz * rng.uniform(0.9, 1.1) * time_s)
            write_audio(folder / name / f"{index}.wav", wave.astype(np.float32))
    return folder


def options(tiny_encoder_folder):
    quick = ["epochs=2", "epoch_windows=16", "window_s=0.4", "variants=1", "transfer.batch_size=8", "head.hidden=8"]
    sets = [part for value in quick for part in ("--set", value)]
    return [*sets, "--encoder", tiny_encoder_folder, "--modes", "frozen,small", "--seeds", "1"]


def test_a_study_is_written_and_goes_on(run, tones, tiny_encoder_folder, tmp_path):
    out, common = tmp_path / "out", options(tiny_encoder_folder)
    first = run("study", tones, "--out", out, "--sizes", "3", *common)
    assert first.code == 0, first.messages
    assert "2 of 2 runs" in first.output
    assert "one seed can't tell this from chance" in first.output
    assert {path.name for path in out.iterdir()} == {
        "cells.jsonl", "study.json", "study-light.png", "study-dark.png", "index.html",
    }  # fmt: skip
    lines = (out / "cells.jsonl").read_text()
    more = run("study", tones, "--out", out, "--sizes", "3,0", *common)
    assert "4 of 4 runs" in more.output
    assert (out / "cells.jsonl").read_text().startswith(lines)
    assert json.loads((out / "study.json").read_text())["config"]["sizes"] == [3, 0]


def test_a_stopped_study_shows_what_it_has(run, tones, tiny_encoder_folder, tmp_path, monkeypatch):
    from kws.train.transfer.study import StudyRun

    def stop(self, progress, minutes):
        original(self, lambda *_: None, 0.0)
        raise KeyboardInterrupt

    original = StudyRun.run
    monkeypatch.setattr(StudyRun, "run", stop)
    stopped = run("study", tones, "--out", tmp_path, "--sizes", "3", *options(tiny_encoder_folder))
    assert stopped.code == 130
    assert "2 of 2 runs" in stopped.output
    assert "go on" in stopped.messages


def test_a_word_without_negatives_is_told_what_to_do(run, tones):
    failed = run("study", tones / "low")
    assert failed.code == 2
    assert "--negatives" in failed.messages


def test_a_mode_that_is_none_is_named(run, tones):
    assert "'thawed'" in run("study", tones, "--modes", "thawed").messages


def test_a_probe_recommends(run, tones, tiny_encoder_folder, tmp_path):
    found = run("probe", tones, "--encoder", tiny_encoder_folder, "--window", "0.4", "--out", tmp_path)
    assert found.code == 0, found.messages
    assert "recommended: --set encoder.layer" in found.output
    assert len(json.loads((tmp_path / "probe.json").read_text())["layers"]) == 3
    assert (tmp_path / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_saliency_draws_a_clip(run, tiny_wakeword, noise, tmp_path):
    model = tiny_wakeword.save(tmp_path / "tiny")
    write_audio(tmp_path / "clip.wav", noise)
    drawn = run("saliency", model, tmp_path / "clip.wav")
    assert drawn.code == 0, drawn.messages
    assert (tmp_path / "clip.saliency.png").read_bytes().startswith(b"\x89PNG")
    assert "'tiny' scores" in drawn.output
    assert json.loads(run("saliency", model, tmp_path / "clip.wav", "--json").output)["keyword"] == "tiny"
    assert "no keyword 'other'" in run("saliency", model, tmp_path / "clip.wav", "--keyword", "other").messages


def test_adaptation_is_not_kept_unless_it_helps(run, tiny_wakeword, noise, tmp_path, monkeypatch):
    from kws.train import adaptation

    source = adaptation.Statistics(np.zeros(16), np.ones(16), 60.0)
    monkeypatch.setattr(adaptation, "bank_statistics", lambda encoder: source)
    model = tiny_wakeword.save(tmp_path / "tiny")
    for name in ("room", "positives", "negatives"):
        for index in range(3):
            write_audio(tmp_path / name / f"{index}.wav", np.tile(noise, 3 if name == "room" else 1))
    arguments = ["adapt", model, "--out", tmp_path / "adapted"]
    arguments += [part for name in ("positives", "negatives") for part in (f"--{name}", tmp_path / name)]
    judged = run(*arguments, "--audio", tmp_path / "room")
    assert judged.code == 0, judged.messages
    assert "nothing was written" in judged.output
    assert not (tmp_path / "adapted").exists()
    run(*arguments, "--audio", tmp_path / "room", "--force")
    details = json.loads((tmp_path / "adapted" / "wakeword.json").read_text())["details"]
    assert details["adapted"]["strength"] == 1.0
