"""Made noises: level, length, variety, and that a seed decides them."""

import numpy as np
import pytest

from kws.data.mix import MixConfig, NoiseSource
from kws.data.noises import events, made_noise, texture, tones, wavering
from kws.frames import SAMPLE_RATE


@pytest.mark.parametrize("num_samples", [160, 8_000, 51_200])
def test_a_made_noise_has_unit_level_and_is_a_function_of_the_seed(num_samples):
    for seed in range(12):
        noise = made_noise(num_samples, np.random.default_rng(seed))
        assert noise.shape == (num_samples,) and noise.dtype == np.float32
        assert np.sqrt(np.mean(noise.astype(np.float64) ** 2)) == pytest.approx(1, abs=1e-3)
        np.testing.assert_array_equal(noise, made_noise(num_samples, np.random.default_rng(seed)))


@pytest.mark.parametrize("kind", [texture, events, tones])
def test_every_kind_sounds_different_each_time(kind):
    first, second = (kind(32_000, np.random.default_rng(seed)) for seed in (1, 2))
    assert np.isfinite(first).all() and first.std() > 0
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_made_noise_wavers_more_than_coloured_noise_does():
    """Peaks of its level over its mean, in 20 ms frames: coloured noise stays within a few decibels."""
    ranges = []
    for seed in range(30):
        frames = made_noise(SAMPLE_RATE * 2, np.random.default_rng(seed)).reshape(-1, 320)
        levels = np.mean(frames.astype(np.float64) ** 2, axis=1)
        ranges.append(10 * np.log10(levels.max() / levels.mean()))
    assert np.median(ranges) > 5


def test_a_wavering_curve_changes_as_often_as_asked_for():
    curve = wavering(10 * SAMPLE_RATE, 4.0, np.random.default_rng(0))
    crossings = np.count_nonzero(np.diff(np.sign(curve - np.median(curve))))
    assert 10 <= crossings <= 40


def test_a_source_of_made_noise_alone_draws_it_at_the_common_level():
    source = NoiseSource(MixConfig(coloured_weight=0, babble_weight=0, recorded_weight=0, made_weight=1))
    drawn = source.draw(16_000, np.random.default_rng(3))
    assert np.sqrt(np.mean(drawn**2)) == pytest.approx(0.1, rel=1e-3)
