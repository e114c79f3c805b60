"""Latency: the word's end by energy on made sounds, and when a live stream gives its scores."""

import numpy as np
import pytest

from kws.detect.detector import Detector
from kws.evaluate.cost import measure_cost
from kws.evaluate.latency import arrivals_s, measure_latency, word_end_s
from kws.frames import SAMPLE_RATE
from kws.model.settings import TriggerConfig


def sound(*parts, background=1e-4):
    """Returns tones of (seconds, amplitude) one after the other, over a faint background."""
    rng = np.random.default_rng(0)
    pieces = [amplitude * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.4) for seconds, amplitude in parts]
    joined = np.concatenate(pieces)
    return (joined + background * rng.standard_normal(len(joined))).astype(np.float32)


def test_the_word_ends_where_its_energy_does():
    assert word_end_s(sound((0.7, 0), (0.5, 0.3), (0.8, 0))) == pytest.approx(1.2, abs=0.02)


def test_a_pause_in_the_word_is_not_its_end_and_a_click_after_it_not_either():
    clip = sound((0.5, 0), (0.3, 0.3), (0.1, 0), (0.3, 0.1), (0.5, 0), (0.02, 0.3), (0.3, 0))
    assert word_end_s(clip) == pytest.approx(1.2, abs=0.02)


def test_a_word_cut_at_the_end_of_the_clip_ends_there():
    assert word_end_s(sound((0.5, 0), (0.5, 0.3))) == pytest.approx(1.0, abs=0.01)


def test_where_the_background_hides_the_end_none_is_claimed():
    assert word_end_s(sound((0.5, 0), (0.5, 0.1), (0.5, 0), background=0.05)) is None
    assert word_end_s(np.zeros(100, np.float32)) is None
    assert word_end_s(np.zeros(SAMPLE_RATE, np.float32)) is None


def test_scores_arrive_by_blocks(tiny_wakeword):
    detector = Detector([tiny_wakeword])  # blocks of four frames
    arrivals = arrivals_s(detector, 10)
    assert len(arrivals) == 10
    assert len(set(arrivals[:4])) == 1
    assert arrivals[4] == pytest.approx(arrivals[3] + 0.08)
    ends = [detector.geometry.frame_end_s(frame) for frame in range(10)]
    assert (arrivals >= ends).all()
    assert arrivals[3] - ends[3] < 0.02


def test_latency_by_hand():
    trigger = TriggerConfig(threshold=0.5, smoothing_frames=1, refractory_s=0.1)
    arrivals = np.arange(100) * 0.02 + 0.1

    def clip(*frames):
        scores = np.zeros(100)
        scores[list(frames)] = 0.9
        return scores

    clips = [clip(50), clip(60), clip(), clip(40), clip(5, 55)]
    ends_s = [1.0, 1.1, 1.0, None, 1.1]
    latency = measure_latency(clips, ends_s, trigger, 0.02, arrivals)
    assert latency.delays_s == pytest.approx((0.1, 0.2, 0.1))  # of the last clip the second firing is the nearer one
    assert latency.num_unclear == 1
    values = latency.to_dict()
    assert values["median_s"] == pytest.approx(0.1)
    assert values["percentile_90_s"] == pytest.approx(0.18)
    assert values["num_measured"] == 3
    nothing = measure_latency([clip()], [1.0], trigger, 0.02, arrivals).to_dict()
    assert nothing["median_s"] is None


def test_cost_is_measured_in_a_process_of_its_own(tiny_wakeword, tmp_path):
    from kws.errors import ConfigError

    cost = measure_cost(str(tiny_wakeword.save(tmp_path / "tiny")))
    assert 0 < cost.cpu_s_per_s < 5
    assert cost.peak_memory_mb is None or 20 < cost.peak_memory_mb < 2000
    with pytest.raises(ConfigError, match="no wake word at 'nowhere'"):
        measure_cost("nowhere")
