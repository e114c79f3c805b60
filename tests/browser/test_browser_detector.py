"""The detector that runs in the browser: its scores and detections are those of Python, live and offline."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Open

from kws.audio.io import read_audio
from kws.audio.samples import pcm16_from_waveform
from kws.detect.detector import Detector
from kws.model.artefact import load_wakeword
from kws.model.settings import HeadConfig, TriggerConfig
from kws.serve.demo_runtime import find_runtime

pytestmark = pytest.mark.browser

HEAR = """async ([name, audio, chunk]) => {
    const ort = await import("/runtime/ort.wasm.min.mjs");
    const { Detector } = await import("/page/detector.js");
    ort.env.wasm.wasmPaths = "/runtime/";
    ort.env.wasm.numThreads = 1;
    const model = await (await fetch(`/wakeword/model?name=${name}`)).json();
    const graph = await (await fetch(`/wakeword/graph?name=${name}`)).arrayBuffer();
    const stream = (await Detector.load(ort, model, new Uint8Array(graph))).stream();
    const bytes = Uint8Array.from(atob(audio), (letter) => letter.charCodeAt(0));
    const samples = Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
    const heard = [];
    for (let start = 0; start < samples.length; start += chunk) {
        heard.push(...(await stream.feed(samples.subarray(start, start + chunk))));
    }
    return [...heard, ...(await stream.flush())];
}"""
"""What the page's worker does, on a recording instead of a microphone."""
RESAMPLE = """async ([rate, chunk]) => {
    const { Resampler } = await import("/page/resampler.js");
    const tone = Float32Array.from({ length: rate }, (_, index) => Math.sin((2 * Math.PI * 440 * index) / rate));
    const resampler = new Resampler(rate);
    const ready = [];
    for (let start = 0; start < rate; start += chunk) {
        ready.push(...resampler.feed(tone.subarray(start, start + chunk)));
    }
    return ready;
}"""

needs_runtime = pytest.mark.skipif(
    find_runtime() is None, reason="onnxruntime-web is not here: kws demo --fetch-browser-runtime"
)


@pytest.fixture
def hear(demo: Callable[..., Any], show: Open, spoken: Path) -> Callable[..., list[dict[str, Any]]]:
    """Returns a function that hears a recording in the browser: frames with time, scores, and what fired."""

    def hear(name: str, waveform: np.ndarray, chunk: int = 5000) -> list[dict[str, Any]]:
        audio = base64.b64encode(pcm16_from_waveform(waveform).tobytes()).decode()
        with demo() as serving:
            return show(f"{serving.web}/browser", spoken).page.evaluate(HEAR, [name, audio, chunk])

    return hear


def expect_the_same(frames: list[dict[str, Any]], detector: Detector, waveform: np.ndarray) -> None:
    """Fails unless the browser's scores and detections are those of `detector`."""
    pcm16 = pcm16_from_waveform(waveform)
    scores = detector.scores(pcm16)
    heard = np.array([frame["scores"] for frame in frames])
    assert heard.shape == scores.shape
    assert np.abs(heard - scores).max() < 1e-3
    stream = detector.stream()
    expected = [(one.keyword, round(one.end_s, 4)) for one in stream.feed(pcm16) + stream.flush()]
    fired = [
        (keyword, round(frame["time_s"], 4))
        for frame in frames
        for keyword, fires in zip(detector.keywords, frame["fired"])
        if fires
    ]
    assert sorted(fired) == sorted(expected)


@needs_runtime
def test_a_real_wake_word(hear: Callable[..., Any], folder: Path, spoken: Path) -> None:
    detector = Detector([load_wakeword(folder / "hey_computer")], backend="onnx")
    waveform = read_audio(spoken)
    frames = hear("hey_computer", waveform)
    expect_the_same(frames, detector, waveform)
    assert sum(frame["fired"][0] for frame in frames) == 2


@needs_runtime
@pytest.mark.parametrize(("kind", "chunk"), [("conv", 640), ("gru", 20_011)])
def test_every_head_in_any_chunks(
    hear: Callable[..., Any],
    folder: Path,
    make_wakeword: Callable[..., Any],
    noise: np.ndarray,
    kind: Any,
    chunk: int,
) -> None:
    head = HeadConfig(kind=kind, hidden=8, kernel=3, dilation=2)
    trigger = TriggerConfig(threshold=0.6, smoothing_frames=3, consecutive_frames=2, refractory_s=0.3)
    wakeword = make_wakeword("one", "two", head=head, trigger=trigger)
    wakeword.save(folder / "tiny")
    detector = Detector([wakeword], backend="onnx")
    expect_the_same(hear("tiny", noise, chunk), detector, noise)


@needs_runtime
def test_it_is_heard_and_seen_live(demo: Callable[..., Any], show: Open, spoken: Path) -> None:
    with demo() as serving:
        shown = show(f"{serving.web}/browser", spoken)
        shown.wait_for("#status", "ready")
        shown.listen_for(1)
        shown.wait_for("#status", r"\d+ % of one core")
        shown.page.focus(".handle")
        shown.page.keyboard.press("PageDown")
        would, heard = shown.effect()
        assert would >= heard >= 1
        assert serving.metric("kws_audio_seconds_total", protocol="websocket") == 0  # the server heard nothing
        assert shown.problems == []


def test_without_the_runtime_the_page_says_what_to_run(
    demo: Callable[..., Any], show: Open, spoken: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("kws.serve.demo_runtime.cache_folder", lambda: tmp_path / "nothing")
    with demo() as serving:
        shown = show(f"{serving.web}/browser", spoken)
        assert "kws demo --fetch-browser-runtime" in shown.wait_for("#missing", "install")
        assert shown.page.is_hidden("main")


def test_the_resampler_keeps_a_tone(demo: Callable[..., Any], show: Open, spoken: Path) -> None:
    with demo() as serving:
        page = show(f"{serving.web}/browser", spoken).page
        for rate in (8000, 16_000, 44_100, 48_000, 96_000):
            ready, again = (np.array(page.evaluate(RESAMPLE, [rate, chunk])) for chunk in (1771, 333))
            assert 0.99 * 16_000 <= len(ready) <= 16_000
            expected = np.sin(2 * np.pi * 440 * np.arange(len(ready)) / 16_000)
            assert np.abs(ready - expected)[100:].max() < 1e-3  # at the beginning there was silence
            assert np.array_equal(ready, again[: len(ready)])
