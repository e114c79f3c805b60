"""The int8 graph: near float32, the same whatever the chunks, and bound to its weights."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from kws.detect.detector import Detector  # noqa: E402
from kws.errors import EncoderError  # noqa: E402
from kws.export import int8  # noqa: E402
from kws.model.encoder_folder import find_encoder_folder, list_encoders, read_streaming_config  # noqa: E402
from kws.model.onnx_encoder import INT8_LIMIT, OnnxEncoder, with_int8  # noqa: E402


def babble(seed: int, num_samples: int = 24_000) -> np.ndarray:
    rng = np.random.default_rng(seed)
    envelope = np.abs(np.sin(np.arange(num_samples) / rng.uniform(500, 3000)))
    return (rng.normal(0, 0.1, num_samples) * envelope).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tiny_encoder_folder, tmp_path_factory):
    folder = shutil.copytree(tiny_encoder_folder, tmp_path_factory.mktemp("int8") / "encoder")
    int8.export_int8(folder, [babble(seed) for seed in range(8)])
    return folder


def frames_of(encoder: OnnxEncoder, waveform: np.ndarray, size: int) -> np.ndarray:
    stream = encoder.stream()
    pieces = [stream.feed(waveform[start : start + size]) for start in range(0, len(waveform), size)]
    return np.concatenate([*pieces, stream.flush()])


def test_rounded_weights_are_within_half_a_step(tiny_encoder_folder):
    config, exact = read_streaming_config(tiny_encoder_folder), OnnxEncoder(tiny_encoder_folder).weights
    rounded = with_int8(exact, config)
    for name in config.linear_names():
        restored = rounded[f"{name}.int8"].T * rounded[f"{name}.scale"][:, None]
        assert np.abs(rounded[f"{name}.int8"]).max() == INT8_LIMIT
        assert (np.abs(restored - exact[f"{name}.weight"]) <= rounded[f"{name}.scale"][:, None] * 0.501).all()
    assert not any(f"{name}.weight" in rounded for name in config.linear_names())


def test_frames_are_near_float32_and_do_not_depend_on_chunks(folder):
    exact, rounded = OnnxEncoder(folder), OnnxEncoder(folder, precision="int8")
    waveform = babble(100)
    error = int8.relative_error(exact, rounded, [waveform])
    assert 0 < error < int8.MAX_RELATIVE_ERROR
    whole = frames_of(rounded, waveform, len(waveform))
    for size in (160, 1280, 4001):
        np.testing.assert_array_equal(frames_of(rounded, waveform, size), whole)
    assert np.abs(frames_of(exact, waveform, 1280) - whole).max() > 0  # it is another graph


@pytest.fixture
def wakeword(folder, make_wakeword):
    made = make_wakeword("one", "two")
    return dataclasses.replace(made, encoder=dataclasses.replace(made.encoder, name=str(folder)))


def test_a_detector_runs_on_it(wakeword, noise):
    exact, rounded = (Detector([wakeword], backend=backend).scores(noise) for backend in ("onnx", "int8"))
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.2)
    chosen = Detector([wakeword])
    assert chosen.backends == ["int8"]
    np.testing.assert_array_equal(chosen.scores(noise), rounded)


@pytest.mark.parametrize("backend", ["int8", "onnx"])
@pytest.mark.parametrize("has_gate", [False, True])
@pytest.mark.parametrize("size", [1, 160, 1280, 4000, "random"])
def test_scores_are_the_same_to_the_bit_whatever_the_chunks(wakeword, noise, chunks, size, has_gate, backend):
    audio = noise[:8_000] if size == 1 else np.concatenate([noise, np.zeros(48_000, np.float32), noise])
    detector = Detector([wakeword], backend=backend, gate=has_gate)
    stream, whole = detector.stream(), detector.scores(audio)
    pieces = [stream.feed_scores(piece) for piece in chunks(audio, size)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.flush_scores()]), whole)


def test_streams_in_many_threads_share_one_detector(wakeword, chunks):
    detector = Detector([wakeword], gate=True)
    voices = [babble(seed, 40_000) for seed in range(12)]

    def listen(voice):
        stream = detector.stream()
        pieces = [stream.feed_scores(piece) for piece in chunks(voice, 1280)]
        return np.concatenate([*pieces, stream.flush_scores()])

    alone = [listen(voice) for voice in voices]
    with ThreadPoolExecutor(6) as executor:
        together = list(executor.map(listen, voices * 3))
    for index, scores in enumerate(together):
        np.testing.assert_array_equal(scores, alone[index % len(voices)])


def test_a_graph_of_other_weights_is_refused(folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    other = shutil.copytree(folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: array * np.float16(1.5) for name, array in weights.items()}, other / "model.safetensors")
    with pytest.raises(EncoderError, match="kws export"):
        OnnxEncoder(other, precision="int8")


def test_what_changes_too_much_is_not_written(folder, tmp_path, monkeypatch):
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "step.int8.onnx").unlink()
    monkeypatch.setattr(int8, "relative_error", lambda *_: float("nan"))
    with pytest.raises(EncoderError, match="int8 changes"):
        int8.export_int8(other, [babble(0), babble(1)])
    assert not (other / "step.int8.onnx").exists()


@pytest.mark.parametrize("name", list_encoders())
def test_shipped_graphs_are_near_float32(name):
    found = find_encoder_folder(name)
    if not (found / "step.int8.onnx").is_file():
        pytest.skip("comes without one")
    exact, rounded = OnnxEncoder(found), OnnxEncoder(found, precision="int8")
    assert int8.relative_error(exact, rounded, [babble(7, 48_000)]) < int8.MAX_RELATIVE_ERROR
