"""`kws tune`: every choice is run, the deepest that fits is best, and nothing is left in the encoder's folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from checkpoints import build_checkpoint
from command_line import Run, runner

pytest.importorskip("torch")
pytest.importorskip("onnx")

from kws.detect.detector import Detector
from kws.errors import EncoderError
from kws.export import tune as tuning
from kws.export.tune import Budget, Trial, tune
from kws.model.settings import EncoderConfig

PLENTY = Budget(cpu_s_per_s=1e6, latency_ms=1e6)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "AUDIO_S", 1.0)
    monkeypatch.setattr(tuning, "ROUNDS", 1)


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes cost depend on the choice alone: a layer takes 1 % of a core, float32 half as much again."""

    def price(encoder, settings, precision, block_ms):
        cost = 0.01 * (settings.layers or 2) * (1.5 if precision == "float32" else 1) * 80 / block_ms
        return Trial(settings, precision, block_ms, cost, block_ms + 1)

    monkeypatch.setattr(tuning, "_trial", price)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


@pytest.fixture
def folder(tiny_encoder_folder, tmp_path):
    return shutil.copytree(tiny_encoder_folder, tmp_path / "encoder")


def settings_of(folder) -> EncoderConfig:
    return EncoderConfig(name=str(folder))


def test_every_choice_is_run_and_nothing_stays_behind(folder, quick):
    before = sorted(folder.iterdir())
    found = tune(settings_of(folder), PLENTY)
    assert {(trial.settings.layers, trial.precision, trial.block_ms) for trial in found.trials} == {
        (layers, precision, block_ms)
        for layers in (0, 1)
        for precision in ("float32", "int8")
        for block_ms in (80, 160, 320)
    }
    assert all(trial.cpu_s_per_s > 0 and trial.latency_ms > trial.block_ms for trial in found.trials)
    assert all(trial.settings.name == str(folder) for trial in found.trials)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("cpu", "latency_ms", "best"),
    [
        (0.05, 1000, (0, "int8", 80)),  # all fit: the deepest, then the soonest, then the cheapest
        (0.012, 1000, (0, "int8", 160)),  # depth is worth more than time
        (0.012, 100, (1, "int8", 80)),
        (0.001, 1000, None),
        (0.05, 80, None),
    ],
)
def test_the_deepest_that_fits_is_best(folder, priced, cpu, latency_ms, best):
    found = tune(settings_of(folder), Budget(cpu, latency_ms)).best
    assert (found and (found.settings.layers, found.precision, found.block_ms)) == best


def test_without_torch_what_is_there_is_tried(folder, priced, monkeypatch):
    def missing(*_, **__):
        raise EncoderError("no torch")

    monkeypatch.setattr(tuning, "export_encoder", missing)
    monkeypatch.setattr(tuning, "export_int8", missing)
    found = tune(settings_of(folder), PLENTY)
    assert {(trial.settings.layers, trial.precision) for trial in found.trials} == {(0, "float32")}
    assert found.left_out == ["all layers: no torch", "1 layers: no torch"]


def test_impossible_depths_and_encoders_are_refused(folder):
    with pytest.raises(EncoderError, match="has 2 transformer layers"):
        tune(settings_of(folder), PLENTY, [3])
    with pytest.raises(EncoderError, match="hf download"):
        tune(EncoderConfig(name="nobody/here"), PLENTY)


def test_the_command_prints_what_to_do(run, folder, priced, make_wakeword, tmp_path):
    made = make_wakeword("tiny")
    wakeword = replace(made, encoder=replace(made.encoder, name=str(folder)))
    path = wakeword.save(tmp_path / "tiny.kws")
    output = run("tune", str(path), "--cpu", "5%", "--latency", "1s").output
    assert "best: all layers, int8, 80 ms at a time" in output
    assert f"export: kws export {folder}" in output
    assert f"listen: kws listen {path} --backend int8 --block-ms 80" in output
    answer = json.loads(run("tune", str(folder), "--cpu", "0.012", "--latency", "100ms", "--json").output)
    assert answer["best"]["settings"]["layers"] == 1
    assert f"train:  kws train PHRASE --set encoder.name={folder} encoder.layers=1" in answer["advice"]
    assert f"export: kws export {folder} --layers 1" in answer["advice"]
    of_encoder = run("tune", str(folder), "--cpu", "5%", "--latency", "1s").output
    assert "listen: kws listen MODEL --backend int8 --block-ms 80" in of_encoder  # an encoder is no wake word
    failed = run("tune", str(folder), "--cpu", "0.01%")
    assert failed.code == 1
    assert "nothing fits; cheapest is 1 layers, int8, 320 ms at a time" in failed.output


@pytest.mark.parametrize("options", [("--cpu", "much"), ("--cpu", "-1%"), ("--latency", "0"), ("--latency", "soon")])
def test_budgets_that_are_none_are_refused(run, options):
    result = run("tune", *options)
    assert result.code == 2
    assert f"error: {options[0]} is '{options[1]}'" in result.messages


def test_the_recommended_block_runs(folder, priced, make_wakeword, noise):
    best = tune(settings_of(folder), Budget(0.012, 1000)).best
    made = make_wakeword("tiny")
    detector = Detector([replace(made, encoder=replace(made.encoder, name=str(folder)))], block_ms=best.block_ms)
    assert detector.block_ms == 160
    assert len(detector.scores(noise)) == 103


def test_windows_are_tried_with_their_hops(quick, tmp_path):
    pytest.importorskip("transformers")
    settings = EncoderConfig(name=str(build_checkpoint(tmp_path / "windows", "Wav2Vec2")), window_s=0.5, hop_s=0.1)
    found = tune(settings, PLENTY, [1])
    assert {(trial.precision, trial.settings.hop_s) for trial in found.trials} == {
        (precision, hop_s) for precision in ("float32", "int8") for hop_s in (0.08, 0.16, 0.32)
    }
    assert found.best is not None and found.best.settings.hop_s == 0.08
    by_hop = {trial.settings.hop_s: trial.cpu_s_per_s for trial in found.trials if trial.precision == "float32"}
    assert by_hop[0.08] > by_hop[0.32]
    assert not list((tmp_path / "windows").glob("*.onnx"))
