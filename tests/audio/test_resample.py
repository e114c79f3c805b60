"""The stream's resampler and its blocks don't depend on how the stream was chunked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import soxr

from kws.audio.resample import StreamResampler, reblocked, resampled
from kws.errors import AudioError

RATES = [8_000, 16_000, 22_050, 44_100, 48_000]


def cut(waveform: np.ndarray, size: int, seed: int = 0) -> list[np.ndarray]:
    """Returns `waveform` in chunks of `size`, or of random sizes (empty ones too) where `size` is 0."""
    if size:
        return [waveform[start : start + size] for start in range(0, waveform.size, size)]
    sizes = np.random.default_rng(seed).integers(0, 3_000, size=1_000)
    return np.split(waveform, np.minimum(np.cumsum(sizes), waveform.size))


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("size", [1, 160, 1280, 0])
def test_output_is_independent_of_chunk_size(noise: np.ndarray, rate: int, size: int) -> None:
    resampler = StreamResampler(rate)
    pieces = [resampler.feed(chunk) for chunk in cut(noise, size)] + [resampler.flush()]
    np.testing.assert_array_equal(np.concatenate(pieces), soxr.resample(noise, rate, 16_000))


@pytest.mark.parametrize("rate", RATES)
def test_tone_keeps_its_frequency_and_level(tone: Callable[..., np.ndarray], rate: int) -> None:
    converted = np.concatenate(list(resampled([tone(1_000, 1.0, rate)], rate)))
    assert converted.size == 16_000
    inside = slice(1_000, -1_000)
    np.testing.assert_allclose(converted[inside], tone(1_000, 1.0)[inside], atol=1e-3)


def test_what_16_khz_can_not_hold_is_filtered_out(tone: Callable[..., np.ndarray]) -> None:
    converted = np.concatenate(list(resampled([tone(12_000, 1.0, 48_000)], 48_000)))
    assert np.abs(converted[1_000:-1_000]).max() < 1e-3


@pytest.mark.parametrize("restart", ["reset", "flush"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_restarted_equals_fresh(noise: np.ndarray, rate: int, restart: str) -> None:
    used, fresh = StreamResampler(rate), StreamResampler(rate)
    used.feed(noise[:5_000])
    getattr(used, restart)()
    np.testing.assert_array_equal(used.feed(noise), fresh.feed(noise))
    np.testing.assert_array_equal(used.flush(), fresh.flush())


def test_two_streams_share_nothing(noise: np.ndarray) -> None:
    one, other, alone = (StreamResampler(48_000) for _ in range(3))
    mixed = []
    for chunk in cut(noise, 480):
        mixed.append(one.feed(chunk))
        other.feed(-chunk)
    np.testing.assert_array_equal(np.concatenate(mixed), alone.feed(noise))


@pytest.mark.parametrize("rate", [0, -8_000, 1, 10_000_000])
def test_impossible_rate_is_refused(rate: int) -> None:
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        StreamResampler(rate)


@pytest.mark.parametrize("size", [1, 160, 0])
@pytest.mark.parametrize("num_samples", [1, 1280, 1_000_000])
def test_blocks_have_the_size_asked_for(size: int, num_samples: int) -> None:
    waveform = np.arange(5_000, dtype=np.float32)
    blocks = list(reblocked(cut(waveform, size), num_samples))
    assert all(block.size == num_samples for block in blocks[:-1])
    assert 0 < blocks[-1].size <= num_samples
    np.testing.assert_array_equal(np.concatenate(blocks), waveform)


def test_no_stream_gives_no_blocks() -> None:
    assert list(reblocked([], 10)) == []
