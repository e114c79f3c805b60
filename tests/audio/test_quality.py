"""Measures of recordings equal what the recordings were made with, and every fault is named with its value."""

from __future__ import annotations

import numpy as np
import pytest

from kws.audio.quality import (
    CLIPPED_SHARE,
    FLOOR_DB,
    LevelMeter,
    frame_levels_db,
    measure_speech,
    take_problems,
)
from kws.frames import SAMPLE_RATE


def burst(
    level_db: float = -20.0, noise_db: float = -70.0, before_s: float = 0.4, speech_s: float = 0.8, after_s: float = 0.4
) -> np.ndarray:
    """Returns a phrase-like sound, noise at `level_db`, in fainter noise: (num_samples,) float32."""
    rng = np.random.default_rng(0)
    before, speech, after = (round(seconds * SAMPLE_RATE) for seconds in (before_s, speech_s, after_s))
    waveform = rng.standard_normal(before + speech + after) * 10 ** (noise_db / 20)
    waveform[before : before + speech] += rng.standard_normal(speech) * 10 ** (level_db / 20)
    return waveform.astype(np.float32)


def names(waveform: np.ndarray, noise_db: float | None = None) -> list[str]:
    return [problem.name for problem in take_problems(waveform, noise_db)]


def test_a_good_take_has_no_problems() -> None:
    assert take_problems(burst()) == []


def test_levels_and_bounds_equal_what_was_made() -> None:
    levels = measure_speech(burst(level_db=-23.0, noise_db=-60.0))
    assert levels.speech_db == pytest.approx(-23.0, abs=0.2)
    assert levels.noise_db == pytest.approx(-60.0, abs=0.8)  # the quietest tenth of 20 ms moments
    assert levels.snr_db == pytest.approx(37.0, abs=1.0)
    assert (levels.start_s, levels.end_s) == (pytest.approx(0.4, abs=0.021), pytest.approx(1.2, abs=0.021))


def test_a_room_that_was_measured_replaces_the_estimate() -> None:
    assert measure_speech(burst(), noise_db=-50.0).noise_db == -50.0
    assert measure_speech(burst(), noise_db=-50.0).snr_db == pytest.approx(30.0, abs=0.2)


@pytest.mark.parametrize("block", [1, 160, 1_280, 100_000])
def test_the_meter_measures_the_same_however_it_is_fed(block: int) -> None:
    waveform = np.clip(burst() + np.float32(0.25), -1, 0.3).astype(np.float32)[:16_000]
    meter = LevelMeter()
    for start in range(0, waveform.size, block):
        meter.feed(waveform[start : start + block])
    assert meter.num_samples == waveform.size
    assert meter.peak == float(np.abs(waveform).max())
    assert meter.dc_offset == pytest.approx(float(waveform.mean(dtype=np.float64)), abs=1e-6)
    assert meter.level_db == pytest.approx(20 * np.log10(waveform.std(dtype=np.float64)), abs=1e-3)


def test_clipping_is_the_share_at_full_scale() -> None:
    waveform = burst()
    waveform[:80] = 1.0
    (problem,) = [problem for problem in take_problems(waveform) if problem.name == "clipping"]
    assert 80 / waveform.size > CLIPPED_SHARE
    assert f"{80 / waveform.size:.2%}" in problem.measured
    assert "gain" in problem.remedy


def test_offset_is_stated_with_its_sign_and_does_not_hide_the_speech() -> None:
    waveform = burst() - np.float32(0.05)
    (problem,) = take_problems(waveform)
    assert str(problem).startswith("DC offset: its mean is -0.050 of full scale")
    assert measure_speech(waveform).start_s == pytest.approx(0.4, abs=0.021)


def test_silence_is_the_only_problem_of_a_silent_take() -> None:
    (problem,) = take_problems(burst(level_db=-80.0, noise_db=-80.0))
    assert problem.name == "silence"
    assert "-77." in problem.measured or "-78." in problem.measured or "-80." in problem.measured
    assert names(np.zeros(SAMPLE_RATE, np.float32)) == ["silence"]
    assert names(np.zeros(0, np.float32)) == ["silence"]


def test_quiet_speech() -> None:
    (problem,) = take_problems(burst(level_db=-52.0, noise_db=-90.0))
    assert problem.name == "too quiet"
    assert "-52." in problem.measured or "-51.9" in problem.measured


def test_noise() -> None:
    (problem,) = take_problems(burst(level_db=-26.0, noise_db=-30.0))
    assert problem.name == "too noisy"
    assert "it should be 10 dB or more" in problem.measured
    assert names(burst(level_db=-30.0, noise_db=-50.0), noise_db=-35.0) == ["too noisy"]


def test_length() -> None:
    (short,) = take_problems(burst(speech_s=0.1))
    assert (short.name, "0.10 s of speech" in short.measured) == ("too short", True)
    (long,) = take_problems(burst(speech_s=4.0))
    assert (long.name, "lasts 4.0" in long.measured) == ("too long", True)


def test_speech_at_the_very_ends_was_cut_off() -> None:
    assert names(burst(before_s=0.0)) == ["cut off at the start"]
    assert names(burst(after_s=0.0)) == ["cut off at the end"]
    (problem,) = take_problems(burst(after_s=0.0))
    level_db = float(problem.measured.split("only ")[1].split(" dB")[0])
    assert 0 <= level_db < 3


def test_levels_of_moments() -> None:
    waveform = np.concatenate([np.zeros(320), np.ones(330)]).astype(np.float32)
    assert frame_levels_db(waveform).tolist() == [FLOOR_DB, 0.0]
    assert frame_levels_db(np.full(5, 0.1, np.float32)) == pytest.approx([-20.0], abs=1e-5)
    assert frame_levels_db(np.zeros(0, np.float32)).tolist() == [FLOOR_DB]
