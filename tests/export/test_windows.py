"""Graphs of windows: equal to torch at every depth, streamed alike, int8 near them, run and loaded without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from checkpoints import KINDS, build_checkpoint
from command_line import runner

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("transformers")

import kws
from kws.audio.io import write_audio
from kws.detect.detector import Detector
from kws.detect.runtime import load_encoder_for
from kws.errors import EncoderError
from kws.export import windows
from kws.model.artefact import Keyword, WakeWord, expected_shapes
from kws.model.graphs import graph_problem, load_onnx_encoder
from kws.model.onnx_windows import OnnxWindows
from kws.model.pretrained import build_encoder
from kws.model.settings import EncoderConfig, HeadConfig, TriggerConfig


def settings_of(folder: Path, **options: object) -> EncoderConfig:
    return EncoderConfig(**{"name": str(folder), "window_s": 0.5, "hop_s": 0.1} | options)  # type: ignore[arg-type]


def frames_of(encoder, pieces) -> np.ndarray:
    stream = encoder.stream()
    return np.concatenate([*(stream.feed(piece) for piece in pieces), stream.flush()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a checkpoint with graphs of two layers, float32 and int8."""
    folder = build_checkpoint(tmp_path_factory.mktemp("windows") / "checkpoint", "Wav2Vec2")
    settings = settings_of(folder, layers=2)
    windows.export_windows(settings)
    windows.export_windows_int8(settings, [babble(0), babble(1)])
    return folder


def babble(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.1, 24_000) * np.abs(np.sin(np.arange(24_000) / rng.uniform(500, 3000)))).astype(np.float32)


def wakeword_on(settings: EncoderConfig) -> WakeWord:
    encoder = build_encoder(settings)
    keywords, head = (Keyword("tiny", 0.3, TriggerConfig(refractory_s=0.2)),), HeadConfig(hidden=8, kernel=3)
    bare = WakeWord(keywords, settings, encoder.sha256, encoder.dim, encoder.num_states, head, {})
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in expected_shapes(bare).items()}
    return WakeWord(keywords, settings, encoder.sha256, encoder.dim, encoder.num_states, head, weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layers", "layer"), [(0, "last"), (1, "last"), (2, "mix")])
def test_streams_as_torch_does(kind, layers, layer, tmp_path, noise, chunks):
    settings = settings_of(build_checkpoint(tmp_path, kind), layers=layers, layer=layer)
    path, error = windows.export_windows(settings)
    assert error < windows.MAX_ERROR
    assert sorted(path.parent.glob("*.onnx")) == [path]
    network, graph = build_encoder(settings), load_onnx_encoder(settings)
    assert isinstance(graph, OnnxWindows)
    for name in ("geometry", "dim", "num_states", "sha256", "settings", "window_frames", "hop_frames"):
        assert getattr(network, name) == getattr(graph, name), name
    expected = frames_of(network, [noise])
    np.testing.assert_allclose(frames_of(graph, chunks(noise, "random")), expected, atol=1e-4)
    np.testing.assert_array_equal(frames_of(graph, chunks(noise, 1280)), frames_of(graph, [noise]))


def test_int8_is_near_and_auto_takes_it(folder, noise, chunks):
    wakeword = wakeword_on(settings_of(folder, layers=2))
    detectors = {backend: Detector([wakeword], backend=backend) for backend in ("auto", "int8", "onnx", "torch")}
    assert [detector.backends for detector in detectors.values()] == [["int8"], ["int8"], ["onnx"], ["torch"]]
    scores = {backend: detector.scores(noise) for backend, detector in detectors.items()}
    np.testing.assert_array_equal(scores["auto"], scores["int8"])
    np.testing.assert_allclose(scores["onnx"], scores["torch"], atol=1e-4)
    np.testing.assert_allclose(scores["int8"], scores["onnx"], atol=0.2)
    assert not np.array_equal(scores["int8"], scores["onnx"])
    stream = detectors["int8"].stream()
    pieces = [stream.feed_scores(piece) for piece in chunks(noise, "random")]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.flush_scores()]), scores["int8"])


def test_other_depths_and_windows_need_their_own_graph(folder):
    assert graph_problem(settings_of(folder, layers=2)) == ""
    assert f"kws export {folder} --layers 1" in graph_problem(settings_of(folder, layers=1))
    assert "windows-3-last-25.onnx" in graph_problem(settings_of(folder))
    assert "--mix" in graph_problem(settings_of(folder, layers=2, layer="mix"))
    assert "windows-2-last-50.onnx" in graph_problem(settings_of(folder, layers=2, window_s=1.0))
    assert graph_problem(settings_of(folder, layers=2, hop_s=0.02)) == ""  # the hop is no part of the graph


def test_loads_from_config_and_graph_alone_without_torch(folder, tmp_path, noise):
    wakeword = wakeword_on(settings_of(folder, layers=2))
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in (folder / "config.json", *folder.glob("*.onnx")):
        shutil.copy(path, bare)
    wakeword.save(tmp_path / "model.kws")
    with_torch = Detector([wakeword], backend="torch").scores(noise)
    np.save(tmp_path / "noise.npy", noise)
    code = """
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = sys.modules["onnx"] = None
        import dataclasses
        import numpy as np
        from kws.detect.detector import Detector
        from kws.model.artefact import load_wakeword
        wakeword = load_wakeword(sys.argv[1] + "/model.kws")
        encoder = dataclasses.replace(wakeword.encoder, name=sys.argv[1] + "/bare")
        detector = Detector([dataclasses.replace(wakeword, encoder=encoder)], backend="onnx")
        np.save(sys.argv[1] + "/scores.npy", detector.scores(np.load(sys.argv[1] + "/noise.npy")))
        """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=Path(kws.__file__).parents[1], timeout=60)
    assert child.returncode == 0, child.stderr
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), with_torch, atol=1e-4)


def test_skipped_windows_leave_the_later_ones_as_they_are(folder, noise):
    """A window holds all that it needs, so passing over some changes nothing after them."""
    encoder = load_encoder_for(wakeword_on(settings_of(folder, layers=2)), "onnx")
    whole, stream = frames_of(encoder, [noise]), encoder.stream()
    first = stream.feed(noise[:9_000])
    num_skipped = stream.skip(noise[9_000:17_000])
    rest = np.concatenate([stream.feed(noise[17_000:]), stream.flush()])
    assert num_skipped == 25
    assert len(first) + num_skipped + len(rest) == len(whole)
    np.testing.assert_array_equal(first, whole[: len(first)])
    np.testing.assert_allclose(rest, whole[len(first) + num_skipped :], atol=1e-6)


def test_a_graph_that_differs_from_torch_is_not_written(tmp_path, monkeypatch):
    settings = settings_of(build_checkpoint(tmp_path, "Wav2Vec2"))
    monkeypatch.setattr(windows, "_parity_error", lambda *_: float("nan"))
    with pytest.raises(EncoderError, match="differs from torch"):
        windows.export_windows(settings)
    assert not list(tmp_path.glob("*.onnx")) and not list(tmp_path.glob(".export-*"))


def test_int8_that_changes_too_much_is_not_written(folder, tmp_path, monkeypatch):
    other = shutil.copytree(folder, tmp_path / "other")
    for path in other.glob("*.int8.onnx"):
        path.unlink()
    monkeypatch.setattr(windows, "relative_error", lambda *_: 0.5)
    with pytest.raises(EncoderError, match="int8 changes"):
        windows.export_windows_int8(settings_of(other, layers=2), [babble(0)])
    assert not list(other.glob("*.int8.onnx"))


@pytest.mark.parametrize("damage", ["foreign", "cut short"])
def test_damaged_graphs_are_refused(folder, tmp_path, damage):
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "windows-2-last-25.onnx"
    if damage == "foreign":
        onnx = pytest.importorskip("onnx")
        model = onnx.load(path)
        del model.metadata_props[:]
        path.write_bytes(model.SerializeToString())
    else:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EncoderError, match="kws export"):
        load_onnx_encoder(settings_of(other, layers=2))


def test_too_many_layers_and_hub_names_are_refused(folder):
    with pytest.raises(EncoderError, match="3 transformer layers"):
        windows.export_windows(settings_of(folder, layers=9))
    with pytest.raises(EncoderError, match="hf download nobody/here --local-dir"):
        windows.export_windows(settings_of(Path("nobody/here")))
    assert json.loads((folder / "config.json").read_text())["model_type"] == "wav2vec2"


def test_the_command_writes_both_graphs(tmp_path, capsys):
    folder, recordings = build_checkpoint(tmp_path / "checkpoint", "Hubert"), tmp_path / "recordings"
    for seed in range(2):
        write_audio(recordings / f"{seed}.wav", babble(seed))
    outcome = runner(capsys)("export", folder, "--layers", "1", "--window", "0.5", "--audio", recordings)
    assert outcome.code == 0, outcome.messages
    assert [path.name for path in sorted(folder.glob("*.onnx"))] == [
        "windows-1-last-25.int8.onnx",
        "windows-1-last-25.onnx",
    ]
    exact, rounded = outcome.output.splitlines()
    assert f"{folder}/windows-1-last-25.onnx: differs from torch by at most" in exact
    assert "differ from float32 by" in rounded
