"""The protocol: background around positives, the stated SNR, continuous negatives with measured hours."""

import numpy as np
import pytest

from kws.audio.io import write_audio
from kws.data.manifest import read_clips
from kws.data.mix import active_rms, active_speech
from kws.detect.detector import Detector
from kws.errors import AudioError, ConfigError
from kws.evaluate.protocol import (
    TALK_S,
    Condition,
    evaluate,
    read_talk,
    score_negatives,
    score_positives,
    with_background,
)
from kws.evaluate.report import format_evaluation
from kws.frames import SAMPLE_RATE


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, count, seconds in (("positives", 3, 1.0), ("negatives", 5, 4.0), ("noise", 2, 2.0)):
        for index in range(count):
            noise = 0.1 * rng.standard_normal(round(seconds * SAMPLE_RATE))
            write_audio(tmp_path / name / f"{index}.wav", noise.astype("f4"))
    return tmp_path


def test_positives_get_a_second_of_background_on_either_side(folder):
    word = 0.3 * np.ones(SAMPLE_RATE, np.float32)
    clip = with_background(word, None, [], np.random.default_rng(0))
    assert len(clip) == 3 * SAMPLE_RATE
    assert 0 < np.abs(clip[:SAMPLE_RATE]).max() < 0.01
    assert clip[SAMPLE_RATE : 2 * SAMPLE_RATE].mean() == pytest.approx(0.3, abs=0.01)


def test_noise_is_at_the_stated_ratio(folder):
    tone = (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.3)).astype("f4")
    clean = with_background(tone, None, [], np.random.default_rng(1))
    noisy = with_background(tone, 10.0, read_clips(folder / "noise"), np.random.default_rng(1))
    gain = np.dot(noisy, clean) / np.dot(clean, clean)
    active = active_speech(clean)
    noise = (noisy - gain * clean)[active]
    assert 10 * np.log10(np.mean((gain * clean[active]) ** 2) / np.mean(noise**2)) == pytest.approx(10, abs=0.5)


def test_noise_that_is_silent_under_the_word_is_drawn_again(folder):
    tone = (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.3)).astype("f4")
    write_audio(folder / "sneezes" / "0.wav", np.eye(1, 3 * SAMPLE_RATE, dtype="f4")[0])  # one click at the start
    with pytest.raises(AudioError, match="the noise recordings are silent"):
        with_background(tone, 10.0, read_clips(folder / "sneezes"), np.random.default_rng(1))
    noises = [*read_clips(folder / "sneezes"), *read_clips(folder / "noise")]
    loudest = [np.abs(with_background(tone, 10.0, noises, np.random.default_rng(seed))).max() for seed in range(10)]
    assert min(loudest) > 0.2  # the tone is as loud as it was


def test_what_is_heard_after_talk_is_scored_from_its_own_background_on(folder, tiny_wakeword, monkeypatch):
    heard, detector = [], Detector([tiny_wakeword])
    scores = Detector.scores
    monkeypatch.setattr(Detector, "scores", lambda self, waveform: heard.append(waveform) or scores(self, waveform))
    clips = read_clips(folder / "positives")
    talk = read_talk(read_clips(folder / "negatives"), seed=0)
    after_talk = score_positives(detector, clips, Condition(talk=talk), seed=0)
    alone = score_positives(detector, clips, Condition(), seed=0)
    num_talk = round(TALK_S * SAMPLE_RATE)
    for talked, quiet in zip(heard[: len(clips)], heard[len(clips) :]):
        np.testing.assert_array_equal(talked[num_talk:], quiet)
        assert active_rms(talked[:num_talk]) == pytest.approx(active_rms(quiet), rel=0.01)
    assert [len(clip) for clip in after_talk] == [len(clip) for clip in alone]


def test_talk_is_what_can_be_read_and_heard(folder):
    (folder / "negatives" / "0.wav").write_bytes(b"nothing")
    write_audio(folder / "negatives" / "1.wav", np.zeros(SAMPLE_RATE, "f4"))
    write_audio(folder / "negatives" / "2.wav", 0.1 * np.ones(40 * SAMPLE_RATE, "f4"))
    talk = read_talk(read_clips(folder / "negatives"), seed=0)
    assert sorted(len(waveform) / SAMPLE_RATE for waveform in talk) == [4, 4, 30]


def test_hours_and_counts_are_measured(folder, tiny_wakeword):
    detector = Detector([tiny_wakeword])
    negatives = score_negatives(detector, "noise", read_clips(folder / "negatives"))
    positives = {"clean": score_positives(detector, read_clips(folder / "positives"), Condition(), seed=0)}
    evaluation = evaluate(detector, detector.keywords[0], positives, [negatives])
    lowest = evaluation.curves["clean"][0]
    assert lowest.hours == pytest.approx(5 * 4.3 / 3600, rel=0.01)
    assert lowest.num_positives == 3
    assert lowest.num_missed == 0  # at a threshold of almost nothing everything fires
    assert evaluation.curves["clean"][-1].num_missed == 3
    assert evaluation.false_alarms[0][0] == "noise"
    assert "false alarms in 0.01 h" in format_evaluation(evaluation)
    assert evaluation.to_dict()["conditions"]["clean"]["at_threshold"]["num_positives"] == 3


def test_an_unknown_keyword_is_refused(tiny_wakeword):
    with pytest.raises(ConfigError, match="no keyword 'other'"):
        evaluate(Detector([tiny_wakeword]), "other", {}, [])
