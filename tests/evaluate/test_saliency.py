"""Saliency by occlusion: what is silenced, and that the part which decides is found."""

import numpy as np
import pytest

from kws.errors import AudioError
from kws.evaluate.saliency import PATCH_S, draw_saliency, occlude, silenced
from kws.frames import SAMPLE_RATE, WAV2VEC2_GEOMETRY
from kws.model.settings import TriggerConfig


class Loudness:
    """A detector whose score is the level of the last 20 ms."""

    keywords = ("loud",)
    triggers = (TriggerConfig(smoothing_frames=1),)
    geometry = WAV2VEC2_GEOMETRY

    def scores(self, waveform):
        frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
        return np.clip(np.abs(frames).max(1), 0.01, 0.99)[:, None]


@pytest.fixture
def clip():
    """A second and a half of faint noise, loud from 0.82 to 0.86 s."""
    waveform = 0.02 * np.random.default_rng(0).standard_normal(round(1.5 * SAMPLE_RATE))
    waveform[round(0.82 * SAMPLE_RATE) : round(0.86 * SAMPLE_RATE)] *= 30
    return waveform.clip(-0.9, 0.9).astype(np.float32)


def test_a_patch_is_silent_and_the_rest_is_as_it_was(clip):
    cut = silenced(clip, 0.5)
    inside = slice(round(0.46 * SAMPLE_RATE), round(0.54 * SAMPLE_RATE))
    outside = np.r_[: round((0.5 - PATCH_S / 2) * SAMPLE_RATE), round((0.5 + PATCH_S / 2) * SAMPLE_RATE) : len(clip)]
    assert not cut[inside].any()
    np.testing.assert_array_equal(cut[outside], clip[outside])


def test_the_part_that_decides_is_found(clip):
    found = occlude(Loudness(), "loud", clip)
    start_s, end_s = found.decisive_s
    assert start_s == pytest.approx(0.8, abs=0.1)
    assert end_s == pytest.approx(0.9, abs=0.1)
    assert np.abs(found.falls[found.times_s < 0.6]).max() < 0.01
    assert found.to_dict()["peak"] == pytest.approx(0.9, abs=0.05)
    assert draw_saliency(found, clip).startswith(b"\x89PNG")


@pytest.mark.parametrize("duration_s", [0.05, 11.0])
def test_clips_of_other_lengths_are_refused(duration_s):
    with pytest.raises(AudioError, match="saliency needs"):
        occlude(Loudness(), "loud", np.zeros(round(duration_s * SAMPLE_RATE), np.float32))
