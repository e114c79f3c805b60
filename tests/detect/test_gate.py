"""The gate: silence is passed over, no word is lost, and how the audio was cut changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kws
from kws.data.mix import coloured_noise, mix_at_snr
from kws.detect.detector import Detector
from kws.detect.gate import HANG_S, LOOK_BACK_S, WARM_UP_S, Gate, SoundMeter
from kws.errors import ConfigError
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY
from kws.model.incremental import IncrementalStream
from kws.model.onnx_encoder import OnnxEncoder

BUNDLED = Path(__file__).resolve().parents[2] / "pretrained/hey_computer"
UNIT_FRAMES = 8
UNIT_S = UNIT_FRAMES * WAV2VEC2_GEOMETRY.hop_s
CHUNKS = [160, 1280, 4001, "random"]


def room(duration_s: float, level_db: float = -60, beta: float = 1.0, seed: int = 0) -> np.ndarray:
    noise = coloured_noise(round(duration_s * SAMPLE_RATE), beta, np.random.default_rng(seed))
    return (noise * 10 ** (level_db / 20)).astype(np.float32)


def with_sound(waveform: np.ndarray, start_s: float, duration_s: float, level: float = 0.05) -> np.ndarray:
    start, size = round(start_s * SAMPLE_RATE), round(duration_s * SAMPLE_RATE)
    sounding = waveform.copy()
    sounding[start : start + size] += level * np.sin(np.arange(size) * 2 * np.pi * 700 / SAMPLE_RATE)
    return sounding


@pytest.fixture(scope="module")
def quiet() -> np.ndarray:
    """Returns twelve seconds of a quiet room with half a second of sound after eight."""
    return with_sound(room(12), 8, 0.5)


def is_heard(pieces) -> np.ndarray:
    return np.concatenate([np.full(len(piece.samples), piece.is_heard) for piece in pieces])


@pytest.mark.parametrize("size", CHUNKS)
def test_every_sample_comes_once_in_order_whatever_the_chunks(quiet, chunks, size):
    whole, gate = Gate(WAV2VEC2_GEOMETRY, UNIT_FRAMES), Gate(WAV2VEC2_GEOMETRY, UNIT_FRAMES)
    expected = whole.feed(quiet) + whole.flush()
    pieces = [piece for chunk in chunks(quiet, size) for piece in gate.feed(chunk)] + gate.flush()
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), quiet)
    np.testing.assert_array_equal(is_heard(pieces), is_heard(expected))


def test_the_start_a_sound_and_what_surrounds_it_are_heard(quiet):
    gate = Gate(WAV2VEC2_GEOMETRY, UNIT_FRAMES)
    heard = is_heard(gate.feed(quiet) + gate.flush())
    edges_s = np.flatnonzero(np.diff(heard.astype(int))) / SAMPLE_RATE
    end_of_start, begin, end = edges_s
    assert end_of_start == pytest.approx(WARM_UP_S + HANG_S, abs=3 * UNIT_S)
    assert begin == pytest.approx(8 - LOOK_BACK_S, abs=2 * UNIT_S) and begin <= 8 - LOOK_BACK_S + UNIT_S
    assert end == pytest.approx(8.5 + HANG_S, abs=3 * UNIT_S) and end >= 8.5 + HANG_S


@pytest.mark.parametrize("beta", [0, 1, 2])
@pytest.mark.parametrize("level_db", [-65, -30])
def test_steady_noise_is_silence_whatever_its_colour(beta, level_db):
    meter, noise = SoundMeter(UNIT_S), room(60, level_db, beta, seed=beta)
    size = round(UNIT_S * SAMPLE_RATE)
    sounds = [meter.is_sound(noise[start : start + size]) for start in range(0, len(noise), size)]
    assert np.mean(sounds[round(WARM_UP_S / UNIT_S) + 1 :]) < 0.05


def test_a_fan_that_starts_is_heard_until_it_is_the_floor(quiet):
    noisy = np.concatenate([room(10), room(20, -40)])
    gate = Gate(WAV2VEC2_GEOMETRY, UNIT_FRAMES)
    heard = is_heard(gate.feed(noisy) + gate.flush())
    assert not heard[5 * SAMPLE_RATE : 8 * SAMPLE_RATE].any()
    assert heard[10 * SAMPLE_RATE : 19 * SAMPLE_RATE].all()
    assert not heard[23 * SAMPLE_RATE :].any()


def test_digital_silence_is_silence_and_any_sound_after_it_is_heard():
    waveform = with_sound(np.zeros(10 * SAMPLE_RATE, np.float32), 8, 0.3, level=1e-3)
    gate = Gate(WAV2VEC2_GEOMETRY, UNIT_FRAMES)
    heard = is_heard(gate.feed(waveform) + gate.flush())
    assert not heard[4 * SAMPLE_RATE : 6 * SAMPLE_RATE].any()
    assert heard[round(7 * SAMPLE_RATE) : round(8.3 * SAMPLE_RATE)].all()


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("size", CHUNKS)
def test_scores_do_not_depend_on_chunks(make_wakeword, quiet, chunks, size, backend):
    detector = Detector([make_wakeword("one", "two")], backend=backend, gate=True)
    stream, whole = detector.stream(), detector.scores(quiet)
    pieces = [stream.feed_scores(chunk) for chunk in chunks(quiet, size)]
    np.testing.assert_allclose(np.concatenate([*pieces, stream.flush_scores()]), whole, atol=1e-6)


def test_scores_of_what_is_heard_are_those_without_a_gate(make_wakeword, quiet):
    """The tiny encoder and its head see less than is looked back, so nothing tells them that there was a gap."""
    wakeword = make_wakeword("tiny")
    plain, gated = (Detector([wakeword], backend="onnx", gate=gate).scores(quiet) for gate in (False, True))
    assert plain.shape == gated.shape
    passed = ~gated.any(axis=1)
    assert 0.3 < passed.mean() < 0.7
    sound = slice(round(8 / 0.02), round(8.5 / 0.02) + 40)
    assert not passed[sound].any()
    np.testing.assert_allclose(gated[sound], plain[sound], atol=1e-6)


def test_wake_words_on_different_encoders_share_the_gate(make_wakeword, quiet):
    whole, cut = make_wakeword("whole"), make_wakeword("cut", seed=1, layers=1)
    together = Detector([whole, cut], gate=True).scores(quiet)
    for column, wakeword in enumerate([whole, cut]):
        alone = Detector([wakeword], gate=True).scores(quiet)
        np.testing.assert_allclose(together[:, [column]], alone, atol=1e-6)


def test_silence_is_not_encoded(make_wakeword, monkeypatch):
    detector, calls = Detector([make_wakeword("tiny")], backend="onnx", gate=True), []
    (group,) = detector._groups
    step = group.encoder.step
    monkeypatch.setattr(group.encoder, "step", lambda samples, cache: calls.append(1) or step(samples, cache))
    stream = detector.stream()
    scores = np.concatenate([stream.feed_scores(room(30)), stream.flush_scores()])
    assert len(scores) == WAV2VEC2_GEOMETRY.num_frames(30 * SAMPLE_RATE)
    assert len(calls) < 0.15 * len(scores) / group.encoder.block_frames


def test_flush_and_reset_leave_the_gate_fresh(make_wakeword, quiet):
    detector = Detector([make_wakeword("tiny")], gate=True)
    stream, whole = detector.stream(), detector.scores(quiet)
    stream.feed(quiet[:50_000])
    stream.reset()
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([stream.feed_scores(quiet), stream.flush_scores()]), whole)


@pytest.mark.parametrize("num_samples", [0, 1, 80, 399, 400, 2639, 2640, 5_200, 40_001])
def test_short_audio_gives_as_many_scores_as_without(tiny_wakeword, num_samples):
    audio = room(3)[:num_samples]
    assert len(Detector([tiny_wakeword], gate=True).scores(audio)) == len(Detector([tiny_wakeword]).scores(audio))


def test_a_step_after_a_gap_sees_its_own_samples_and_the_cache_before_the_gap(tiny_encoder_folder, noise):
    encoder = OnnxEncoder(tiny_encoder_folder)
    geometry, block = encoder.geometry, encoder.block_frames
    size, stream = block * geometry.hop, IncrementalStream(encoder, block)
    first = stream.feed(noise[: geometry.num_samples(block)])
    assert stream.skip(noise[geometry.num_samples(block) :][: 3 * size]) == 3 * block
    last = stream.feed(noise[geometry.num_samples(4 * block) :][:size])
    expected, cache = encoder.step(noise[None, : geometry.num_samples(block)], encoder.initial_cache())
    np.testing.assert_array_equal(first, expected[0])
    expected, _ = encoder.step(noise[None, 4 * size : 4 * size + geometry.num_samples(block)], cache)
    np.testing.assert_array_equal(last, expected[0])


def test_longer_blocks_give_the_same_scores_later(make_wakeword, noise, chunks):
    wakeword = make_wakeword("one", "two")
    usual, longer = (Detector([wakeword], backend="onnx", block_ms=block_ms) for block_ms in (0, 320))
    assert (usual.block_ms, longer.block_ms) == (80, 320)
    np.testing.assert_allclose(longer.scores(noise), usual.scores(noise), atol=1e-5)
    first, second = usual.stream(), longer.stream()
    counts = [(len(first.feed_scores(piece)), len(second.feed_scores(piece))) for piece in chunks(noise[:8_000], 1280)]
    assert {count for count, _ in counts} == {0, 4}
    assert {count for _, count in counts} == {0, 16}


@pytest.mark.parametrize("block_ms", [40, 81, 100, -80, 1e6, float("nan")])
def test_impossible_blocks_are_refused(tiny_wakeword, block_ms):
    with pytest.raises(ConfigError, match="a multiple of 80 ms"):
        Detector([tiny_wakeword], block_ms=block_ms)


@pytest.mark.slow
@pytest.mark.parametrize("snr_db", [None, 10, 5])
def test_no_spoken_word_is_lost(snr_db):
    from kws.data.synth import draw_voice, speak

    plain, gated = (kws.load(BUNDLED, gate=gate) for gate in (False, True))
    rng, num_found, num_passed = np.random.default_rng(3), 0, 0
    for seed in range(8):
        word = speak("hey computer", draw_voice(rng, "train")).waveform
        waveform = np.pad(word * np.float32(0.05 / np.abs(word).max()), (8 * SAMPLE_RATE, SAMPLE_RATE)) + room(1)[0]
        background = room(len(waveform) / SAMPLE_RATE, beta=seed % 3, seed=seed)[: len(waveform)]
        mixed = waveform + background if snr_db is None else mix_at_snr(waveform, background, snr_db).waveform
        expected, scores = (detector.scores(mixed) for detector in (plain, gated))
        found, kept = (detector.stream().fire(rows) for detector, rows in ((plain, expected), (gated, scores)))
        assert [round(one.end_s, 1) for one in kept] == pytest.approx([round(one.end_s, 1) for one in found], abs=0.11)
        num_found, num_passed = num_found + len(found), num_passed + int((~scores.any(axis=1)).sum())
    assert num_found >= 6
    assert num_passed > 8 * 100  # of the lead, two seconds a clip and more
