"""The clips of the report: the right ones, in order, of the right length, and with the alarm in them."""

import numpy as np
import pytest

from kws.audio.io import write_audio
from kws.data.manifest import Clip
from kws.evaluate.examples import AFTER_S, BEFORE_S, Event, cut, find_events, loudest, worst_misses
from kws.evaluate.material import read_material
from kws.evaluate.protocol import BACKGROUND_S, NegativeScores, Part
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY
from kws.model.settings import TriggerConfig

TRIGGER = TriggerConfig(threshold=0.5, smoothing_frames=1, refractory_s=0.5)
HOP_S = WAV2VEC2_GEOMETRY.hop_s


def scores_with(peaks, num_frames):
    scores = np.full(num_frames, 0.01)
    for frame, height in peaks.items():
        scores[frame] = height
    return scores


def burst(path, at_s, duration_s):
    """Writes a faint hiss with a loud burst of 50 ms at `at_s`."""
    rng = np.random.default_rng(0)
    waveform = 0.001 * rng.standard_normal(round(duration_s * SAMPLE_RATE))
    start = round(at_s * SAMPLE_RATE)
    waveform[start : start + 800] = 0.5 * np.sin(np.arange(800) * 0.5)
    write_audio(path, waveform.astype(np.float32))
    return path


def test_events_are_the_firings_then_what_came_nearest():
    smoothed = scores_with({100: 0.6, 105: 0.9, 300: 0.45, 400: 0.4, 401: 0.3}, 600)
    events = find_events(smoothed, TRIGGER, HOP_S, most=2)
    assert events == [Event(0.9, 100, True), Event(0.45, 300, False), Event(0.4, 400, False)]
    assert find_events(np.zeros(0), TRIGGER, HOP_S, 3) == []


def test_the_loudest_alarms_play_what_fired(tmp_path):
    first = burst(tmp_path / "first.wav", 1.0, 4.0)
    second = burst(tmp_path / "second.wav", 5.5, 8.0)
    parts = [Part(first, 0.0, 4.0), Part(second, 4.3, 8.0)]
    frame = WAV2VEC2_GEOMETRY.first_frame_from(round((4.3 + 5.55) * SAMPLE_RATE))  # the burst in the second file
    scores = scores_with({frame: 0.8, 60: 0.3}, WAV2VEC2_GEOMETRY.num_frames(round(12.6 * SAMPLE_RATE)))
    source = NegativeScores("talk", [scores[:, None]], [parts])
    alarm, near = loudest([source], 0, TRIGGER, WAV2VEC2_GEOMETRY, 2)
    assert (alarm.source, alarm.where, alarm.is_alarm, alarm.peak) == (second, "talk", True, 0.8)
    assert alarm.at_s == pytest.approx(5.55, abs=0.03)
    assert alarm.mark_s == pytest.approx(BEFORE_S)
    assert alarm.duration_s == pytest.approx(BEFORE_S + AFTER_S, abs=0.001)
    loud_s = np.flatnonzero(np.abs(alarm.waveform) > 0.1) / SAMPLE_RATE
    assert loud_s[0] == pytest.approx(alarm.mark_s - 0.05, abs=0.03)  # the burst ends where it fires
    assert alarm.times_s[alarm.scores.argmax()] == pytest.approx(alarm.mark_s)
    assert (near.source, near.is_alarm) == (first, False)
    assert near.mark_s == pytest.approx(near.at_s)  # it begins less than two seconds into the stream


def test_a_piece_over_two_files_is_silent_between_them(tmp_path):
    paths = [tmp_path / "a.wav", tmp_path / "b.flac"]
    for path, level in zip(paths, (0.25, 0.5)):
        write_audio(path, np.full(2 * SAMPLE_RATE, level, np.float32))
    parts = [Part(paths[0], 0.0, 2.0), Part(paths[1], 2.3, 2.0)]
    piece = cut(parts, 1.9, 2.5)
    assert len(piece) == round(0.6 * SAMPLE_RATE)
    tenth = SAMPLE_RATE // 10
    assert piece[:tenth] == pytest.approx(0.25)
    assert not piece[tenth : 4 * tenth].any()
    assert piece[4 * tenth :] == pytest.approx(0.5)


def test_the_worst_misses_come_first_and_play_what_was_heard(tmp_path):
    for index in range(4):
        burst(tmp_path / f"{index}.wav", 0.5, 1.0)
    material = read_material(tmp_path, [tmp_path], snrs_db=[10.0], seed=3)
    num_frames = WAV2VEC2_GEOMETRY.num_frames(3 * SAMPLE_RATE)
    scores = [scores_with({80: height}, num_frames) for height in (0.4, 0.9, 0.1, 0.3)]
    worst = list(worst_misses(material, "10 dB", scores, TRIGGER, WAV2VEC2_GEOMETRY, 2))
    assert [miss.source.name for miss in worst] == ["2.wav", "3.wav"]
    assert [miss.peak for miss in worst] == [0.1, 0.3]
    assert worst[0].duration_s == pytest.approx(1.0 + 2 * BACKGROUND_S)
    assert worst[0].at_s == pytest.approx(WAV2VEC2_GEOMETRY.frame_end_s(80) - BACKGROUND_S)
    np.testing.assert_array_equal(worst[0].waveform, material.positive(2, "10 dB"))
    assert len(list(worst_misses(material, "clean", scores, TRIGGER, WAV2VEC2_GEOMETRY, 9))) == 3  # one was found


def test_every_detector_hears_the_same_noise_and_the_report_plays_it(tmp_path):
    from kws.evaluate.protocol import Condition, score_positives

    class Ear:
        geometry = WAV2VEC2_GEOMETRY

        def __init__(self):
            self.heard = []

        def scores(self, waveform):
            self.heard.append(waveform)
            return np.zeros((1, 1), np.float32)

    clips = [Clip(burst(tmp_path / f"{index}.wav", 0.3, 1.0)) for index in range(3)]
    ears = [Ear(), Ear()]
    for ear in ears:
        score_positives(ear, clips, Condition(5.0), seed=7)
    material = read_material(tmp_path, [tmp_path], snrs_db=[5.0], seed=7)
    for index in range(3):
        np.testing.assert_array_equal(ears[0].heard[index], ears[1].heard[index])
        np.testing.assert_array_equal(ears[0].heard[index], material.positive(index, "5 dB"))
