"""The detector: same scores and detections live and offline, on both back ends, with and without torch."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import kws
from kws.detect.detector import Detector
from kws.detect.trigger import Trigger, smooth
from kws.errors import ArtefactError, AudioError, ConfigError, EncoderError
from kws.model.settings import HeadConfig, TriggerConfig

CHUNK_SIZES = [1, 160, 1280, 4000, "random"]
BACKENDS = ["torch", "onnx"]


@pytest.fixture(scope="module", params=BACKENDS)
def detector(request: pytest.FixtureRequest, make_wakeword) -> Detector:
    return Detector([make_wakeword("tiny", "small")], backend=request.param)


def detections(stream, pieces):
    return [found for piece in pieces for found in stream.feed(piece)] + stream.flush()


def alike(found):
    return [(one.keyword, one.start_s, one.end_s, round(one.score, 4)) for one in found]


@pytest.mark.parametrize("size", [1280, "random"])
def test_scores_equal_the_streams(detector, noise, chunks, size):
    whole = detector.scores(noise)
    assert whole.shape == (103, 2)
    assert whole.dtype == np.float32
    stream, rounding = detector.stream(), 1e-5 if detector.backends == ["torch"] else 0
    pieces = [stream.feed_scores(piece) for piece in chunks(noise, size)]
    np.testing.assert_allclose(np.concatenate([*pieces, stream.flush_scores()]), whole, rtol=0, atol=rounding)


def test_back_ends_agree(make_wakeword, noise):
    wakeword = make_wakeword("tiny", "small")
    torch_detector, onnx_detector = (Detector([wakeword], backend=backend) for backend in BACKENDS)
    np.testing.assert_allclose(torch_detector.scores(noise), onnx_detector.scores(noise), atol=1e-4)
    found, other = (detections(one.stream(), [noise]) for one in (torch_detector, onnx_detector))
    assert len(found) > 3
    assert [(one.keyword, one.end_s) for one in found] == [(one.keyword, one.end_s) for one in other]


@pytest.mark.parametrize("size", CHUNK_SIZES)
def test_detections_do_not_depend_on_chunks(detector, noise, chunks, size):
    audio = noise[:8000] if size == 1 else noise
    whole = detections(detector.stream(), [audio])
    assert whole
    key = lambda one: (one[2], one[0])  # noqa: E731
    assert sorted(alike(detections(detector.stream(), chunks(audio, size))), key=key) == sorted(alike(whole), key=key)


@pytest.mark.parametrize("size", [1, 7, 300])
def test_triggers_that_see_only_loud_stretches_fire_as_if_they_saw_all(make_wakeword, size):
    configs = [
        TriggerConfig(threshold=threshold, smoothing_frames=smoothing, consecutive_frames=consecutive, refractory_s=0.2)
        for threshold, smoothing, consecutive in ((0.6, 1, 1), (0.7, 6, 1), (0.75, 3, 4), (0.99, 9, 1))
    ]
    detector = Detector([make_wakeword(f"word {config.threshold}", trigger=config) for config in configs])
    rng = np.random.default_rng(8)
    loudness = np.repeat(rng.uniform(0, 1, (100, len(configs))), 30, axis=0)
    scores = (loudness * rng.uniform(0.7, 1, loudness.shape)).astype(np.float32)
    stream = detector.stream()
    found, highest = [], []
    for start in range(0, len(scores), size):
        found += stream.fire(scores[start : start + size])
        highest.append(stream.recent_scores)
    for keyword, config, column, shown in zip(detector.keywords, configs, scores.T, np.transpose(highest)):
        smoothed = smooth(np.pad(column, (config.smoothing_frames - 1, 0)), config.smoothing_frames)
        peaks = [smoothed[start : start + size].max() for start in range(0, len(scores), size)]
        np.testing.assert_allclose(shown, peaks, rtol=1e-5)
        expected = Trigger(config, detector.geometry.hop_s).feed(column)
        ends_s = [detector.geometry.frame_end_s(firing.frame) for firing in expected]
        assert [(one.end_s, one.score) for one in found if one.keyword == keyword] == [
            (end_s, pytest.approx(firing.score)) for end_s, firing in zip(ends_s, expected)
        ]
        assert expected or config.threshold > 0.9


def test_times_come_from_the_sample_counter(detector, noise):
    for found in detections(detector.stream(), [noise]):
        assert 0 <= found.start_s < found.end_s <= len(noise) / 16_000
        assert found.start_s == pytest.approx(max(0, found.end_s - 0.3))
        assert ((found.end_s * 16_000 - 400) / 320) == pytest.approx(round((found.end_s * 16_000 - 400) / 320))
        assert 0.5 <= found.score <= 1


def test_int16_and_float_give_the_same(detector, noise):
    pcm16 = (noise * 32767).round().clip(-32768, 32767).astype(np.int16)
    np.testing.assert_allclose(detector.scores(pcm16), detector.scores(pcm16 / 32768), atol=1e-5)


@pytest.mark.parametrize(
    "bad", [np.array([0, np.nan]), np.array([np.inf]), np.zeros((2, 100)), np.zeros(9, np.int64), None]
)
def test_bad_chunk_leaves_the_stream_as_before(detector, noise, bad):
    stream = detector.stream()
    found = stream.feed(noise[:9000])
    with pytest.raises(AudioError):
        stream.feed(bad)
    found += stream.feed(noise[9000:]) + stream.flush()
    assert alike(found) == alike(detections(detector.stream(), [noise[:9000], noise[9000:]]))


def test_two_streams_share_nothing(detector, noise, chunks):
    first, second, found = detector.stream(), detector.stream(), []
    for piece in chunks(noise, 1280):
        found += first.feed(piece)
        second.feed(-2 * piece)
    assert alike(found + first.flush()) == alike(detections(detector.stream(), chunks(noise, 1280)))


def test_flush_and_reset_leave_the_stream_fresh(detector, noise):
    fresh, stream = detections(detector.stream(), [noise]), detector.stream()
    detections(stream, [noise[:9999]])
    assert detections(stream, [noise]) == fresh
    stream.feed(noise[:9999])
    stream.reset()
    assert detections(stream, [noise]) == fresh


def test_flush_scores_leaves_encoder_and_heads_fresh(detector, noise):
    stream = detector.stream()
    first, second = (np.concatenate([stream.feed_scores(noise), stream.flush_scores()]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_keywords_on_one_encoder_share_its_pass(make_wakeword, noise, monkeypatch):
    wakewords = [make_wakeword(name, seed=seed) for seed, name in enumerate(("a", "b", "c"))]
    wakewords[1] = make_wakeword("b", seed=1, head=HeadConfig(kind="gru", hidden=8))
    detector = Detector(wakewords, backend="onnx")
    (group,) = detector._groups
    calls, step = [], group.encoder.step
    monkeypatch.setattr(group.encoder, "step", lambda samples, cache: calls.append(1) or step(samples, cache))
    scores = detector.scores(noise)
    assert len(calls) == 26  # each block of four frames once, and the rest
    assert detector.keywords == ["a", "c", "b"]  # heads of one shape are one product
    for wakeword in wakewords:
        column = detector.keywords.index(wakeword.keywords[0].name)
        alone = Detector([wakeword], backend="onnx").scores(noise)
        np.testing.assert_allclose(scores[:, [column]], alone, atol=1e-6)


def test_wake_words_on_different_depths_run_side_by_side(make_wakeword, noise):
    whole, cut = make_wakeword("whole"), make_wakeword("cut", seed=1, layers=1)
    mixed = make_wakeword("mixed", seed=2, layer="mix", num_states=3)
    detector = Detector([whole, cut, mixed])
    assert len(detector._groups) == 3
    scores = detector.scores(noise)
    for column, wakeword in enumerate([whole, cut, mixed]):
        np.testing.assert_allclose(scores[:, [column]], Detector([wakeword]).scores(noise), atol=1e-6)


def test_one_keyword_twice_is_refused(make_wakeword):
    with pytest.raises(ConfigError, match="'tiny' is in more than one"):
        Detector([make_wakeword("tiny"), make_wakeword("tiny", seed=1)])


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_other_weights_than_trained_on_are_refused(tiny_wakeword, backend):
    with pytest.raises(ArtefactError, match="another version of the encoder"):
        Detector([dataclasses.replace(tiny_wakeword, encoder_sha256="00" * 32)], backend=backend)


def test_frames_of_another_width_are_refused_in_every_member(make_wakeword):
    wrong = dataclasses.replace(make_wakeword("wrong"), dim=32)
    with pytest.raises(ArtefactError, match="takes frames of 32"):
        Detector([make_wakeword("right"), wrong])


def test_unknown_back_end_is_refused(tiny_wakeword):
    with pytest.raises(ConfigError, match="'auto', 'int8', 'onnx', 'torch'"):
        Detector([tiny_wakeword], backend="tensorrt")  # type: ignore[arg-type]


def test_onnx_says_what_it_can_not_run(make_wakeword):
    with pytest.raises(EncoderError, match=r"step-1.onnx .kws export .* --layers 1.*backend='torch'"):
        Detector([make_wakeword(layers=1)], backend="onnx")


def test_auto_takes_the_graph_where_it_fits(make_wakeword):
    pytest.importorskip("torch")
    from kws.model.encoder import Encoder
    from kws.model.onnx_encoder import OnnxEncoder

    assert isinstance(Detector([make_wakeword()])._groups[0].encoder, OnnxEncoder)
    assert isinstance(Detector([make_wakeword(layers=1)])._groups[0].encoder, Encoder)


def test_load_reads_folders_and_archives(make_wakeword, tmp_path, noise):
    first, second = make_wakeword("one"), make_wakeword("two", seed=1)
    detector = kws.load(first.save(tmp_path / "one.kws"), str(second.save(tmp_path / "two")))
    assert detector.keywords == ["one", "two"]
    assert detector.thresholds == [0.5, 0.5]
    np.testing.assert_array_equal(detector.scores(noise), Detector([first, second]).scores(noise))
    with pytest.raises(ConfigError, match="kws models"):
        kws.load()


BLOCKED = """
    import sys
    class Block:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("torch", "torchaudio", "transformers", "onnx", "scipy", "librosa"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Block())
    import numpy as np
    import kws
"""


def run_without_torch(code: str, *arguments: str) -> str:
    script = textwrap.dedent(BLOCKED) + textwrap.dedent(code)
    command = [sys.executable, "-c", script, *arguments]
    root = Path(kws.__file__).resolve().parents[1]
    result = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_detection_needs_no_torch(make_wakeword, tmp_path, noise):
    wakeword = make_wakeword("one", "two")
    path = wakeword.save(tmp_path / "one.kws")
    np.save(tmp_path / "noise.npy", noise)
    run_without_torch(
        """
        folder = sys.argv[1]
        detector = kws.load(folder + "/one.kws")
        noise = np.load(folder + "/noise.npy")
        np.save(folder + "/scores.npy", detector.scores(noise))
        stream = detector.stream()
        assert stream.feed(noise) + stream.flush()
        assert "torch" not in sys.modules and "onnx" not in sys.modules
        """,
        str(tmp_path),
    )
    scores = np.load(tmp_path / "scores.npy")
    np.testing.assert_allclose(scores, kws.load(path, backend="torch").scores(noise), atol=1e-4)


def test_missing_torch_is_named_with_its_remedy(make_wakeword, tiny_encoder_folder, tmp_path):
    make_wakeword("cut", layers=1).save(tmp_path / "cut.kws")
    bare = shutil.copytree(tiny_encoder_folder, tmp_path / "bare")
    (bare / "step.onnx").unlink()
    whole = make_wakeword("whole")
    dataclasses.replace(whole, encoder=dataclasses.replace(whole.encoder, name=str(bare))).save(tmp_path / "bare.kws")
    output = run_without_torch(
        """
        folder = sys.argv[1]
        for model, backend in (("cut", "auto"), ("bare", "auto"), ("cut", "torch")):
            try:
                kws.load(f"{folder}/{model}.kws", backend=backend)
            except kws.KwsError as error:
                print(type(error).__name__, error)
        try:
            kws.load_encoder
        except kws.KwsError as error:
            print(type(error).__name__, error)
        """,
        str(tmp_path),
    )
    lines = output.splitlines()
    assert len(lines) == 4
    assert all("pip install 'kws[train]'" in line for line in lines)
    assert [line.split()[0] for line in lines] == ["EncoderError"] * 3 + ["DependencyError"]
    assert "step.onnx" in lines[1]
